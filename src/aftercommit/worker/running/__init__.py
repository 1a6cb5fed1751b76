"""Runs the user's code, and says how it ended."""
