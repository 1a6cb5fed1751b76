"""Benchmarks beside other queues: ``make bench``."""
