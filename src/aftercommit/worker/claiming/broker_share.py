"""How many threads of this process may publish to one broker at the same time.

A broker that takes messages slowly, or never answers, must leave threads to other jobs.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from aftercommit.worker.claiming.broker_backoff import is_backing_off

STALLED = timedelta(seconds=1)  # no call begins beside one that takes longer
UNLIMITED = 1_000_000

_lock = threading.Lock()
_began: defaultdict[str, list[float]] = defaultdict(list)  # by queue, of the calls under way
_most = UNLIMITED


def divide(*, threads: int, among_others: bool) -> None:
    """Say how many threads this process has, and whether they have other jobs as well."""
    global _most  # noqa: PLW0603 - of the process, as the connections to the broker are
    _most = max(1, threads // 2) if among_others else threads


def is_held_back(queue: str) -> bool:
    """Return whether nothing is claimed from a queue: its broker is away, or has its share."""
    return is_backing_off(queue) or is_used_up(queue)


def is_used_up(queue: str) -> bool:
    """Return whether no call may begin now, so that jobs of a queue must not be claimed."""
    calls = tuple(_began.get(queue, ()))  # a copy: a call may end in another thread meanwhile
    if not calls:
        return False
    return len(calls) >= _most or time.monotonic() - min(calls) > STALLED.total_seconds()


@contextmanager
def call_to(queues: tuple[str, ...]) -> Iterator[bool]:
    """Count a call to the broker of these queues; yield False if it must not begin now."""
    now = time.monotonic()
    with _lock:
        may = not is_used_up(queues[0])
        if may:
            for queue in queues:
                _began[queue].append(now)
    try:
        yield may
    finally:
        if may:
            with _lock:
                for queue in queues:
                    _began[queue].remove(now)
