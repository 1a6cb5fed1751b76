"""Broker backoff: queues of the relay that are not claimed while their broker does not answer."""

import time
from datetime import timedelta

_until: dict[str, float] = {}  # monotonic


def back_off(queue: str, span: timedelta) -> None:
    """Do not claim from a queue for the next ``span``."""
    _until[queue] = time.monotonic() + span.total_seconds()


def resume(queue: str) -> None:
    """End the backoff of a queue, if there is one."""
    _until.pop(queue, None)


def is_backing_off(queue: str) -> bool:
    """Return whether a queue must not be claimed from now."""
    return time.monotonic() < _until.get(queue, 0)
