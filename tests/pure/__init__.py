"""Tests that need no database; they run once."""
