"""Tests: tests/run.py runs them on every database it finds."""
