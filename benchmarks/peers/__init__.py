"""The queues that are measured: one module each."""
