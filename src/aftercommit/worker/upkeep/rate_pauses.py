"""Pauses of rates that tasks have asked for: written by the worker, whatever the task does."""

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from aftercommit.store.base import Store


class RatePauses:
    """Holds what a task has asked for until it is written, on another connection than its own.

    It must be in the table before the outcome of the run, and soon: whoever writes first, the
    thread of the rates or the one that writes outcomes, writes all.
    """

    def __init__(self, store: Store, *, ring: Callable[[], None]) -> None:
        self._store = store
        self._ring = ring
        # The moment, or when it is on this process's clock.
        self._asked: deque[tuple[UUID, datetime | float]] = deque()
        self._lock = threading.Lock()

    def ask(self, job_id: UUID, until: datetime | timedelta) -> None:
        """Pause the rate key of a job until a moment, or for a span from now on."""
        if isinstance(until, timedelta):
            self._asked.append((job_id, time.monotonic() + until.total_seconds()))
        else:
            self._asked.append((job_id, until))
        self._ring()

    def write(self) -> None:
        """Write all that was asked for before this call, also what another thread writes now."""
        with self._lock:
            while self._asked:
                job_id, end = self._asked[0]
                if isinstance(end, float):
                    left = timedelta(seconds=max(end - time.monotonic(), 0))
                    self._store.pause_rate(job_id, left)
                else:
                    self._store.pause_rate(job_id, end)
                self._asked.popleft()
