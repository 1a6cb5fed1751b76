"""Faults at every point, and what is left of the jobs afterwards."""
