"""Runs the user's code, and returns how it ended."""
