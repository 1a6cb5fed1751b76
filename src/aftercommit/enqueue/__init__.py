"""Enqueues jobs: the part that a web process loads. It imports no models when it is imported."""
