"""Where settings written for 0.1.0 find ``CeleryBackend``; new ones name ``aftercommit``."""

from aftercommit.relay.celery.backend import CeleryBackend

__all__ = ["CeleryBackend"]
