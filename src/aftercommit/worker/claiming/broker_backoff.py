"""Queues that this process leaves alone for a while: what they need does not answer."""

import time
from datetime import timedelta

_until: dict[str, float] = {}  # monotonic


def pause(queue: str, span: timedelta) -> None:
    """Claim nothing from a queue for so long."""
    _until[queue] = time.monotonic() + span.total_seconds()


def resume(queue: str) -> None:
    """End a pause, if there is one."""
    _until.pop(queue, None)


def is_paused(queue: str) -> bool:
    """Tell whether a queue is to be left alone now."""
    return time.monotonic() < _until.get(queue, 0)
