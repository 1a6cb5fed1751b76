"""Processes that claim jobs and run them."""
