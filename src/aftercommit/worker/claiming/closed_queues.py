"""Queues with a rate of which nothing may start now: they are not asked before the next may."""

import time
from datetime import timedelta

LOOK_AT_LEAST = timedelta(minutes=1)  # at a queue, whatever its row has said


class ClosedQueues:
    """Knows until when queues are closed that a claim has found so."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # monotonic

    def note(self, queue: str, wait: timedelta) -> None:
        """Note that nothing may start for so long."""
        self._until[queue] = time.monotonic() + min(wait, LOOK_AT_LEAST).total_seconds()

    def rates_changed(self) -> None:
        """Ask all again: they may start sooner now. From any thread."""
        self._until = {}

    def must_wait(self, queue: str) -> bool:
        """Return whether a queue is closed."""
        return bool(self._until) and queue in self.now

    @property
    def now(self) -> set[str]:
        """The queues that are closed."""
        now = time.monotonic()
        return {queue for queue, until in tuple(self._until.items()) if until > now}

    def next_look(self, otherwise: timedelta) -> timedelta:
        """Return when the first of them opens, if that is sooner than ``otherwise``."""
        now = time.monotonic()
        open_again = [queue for queue, until in tuple(self._until.items()) if until <= now]
        for queue in open_again:
            self._until.pop(queue, None)
        waits = [timedelta(seconds=until - now) for until in tuple(self._until.values())]
        return min([otherwise, *waits])
