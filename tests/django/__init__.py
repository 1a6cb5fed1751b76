"""Tests of how the package sits in Django."""
