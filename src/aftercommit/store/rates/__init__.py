"""Rates: which jobs may start now, who waits aside, who is next."""
