"""Tests of the linter; they need no database and run once."""
