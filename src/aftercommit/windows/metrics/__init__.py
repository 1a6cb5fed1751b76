"""Metrics for Prometheus: what is in a database, and what one worker does."""
