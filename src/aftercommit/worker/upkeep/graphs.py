"""Sweeps the edges of graphs, in case that the end of a job has freed nobody."""

import time
from collections.abc import Callable
from datetime import timedelta

from aftercommit.store.base import Store

SWEEP_EVERY = timedelta(seconds=1)  # while jobs wait for others
SWEEP_RARELY = timedelta(seconds=30)  # without such jobs: some may be enqueued meanwhile
MOST_EDGES = 500  # in one step
PAUSE = 9.0  # times as long as a step, while there are more edges
FIRST = 0


class WaitingJobs:
    """The jobs of one database alias that wait for others; ``step`` is called again and again.

    Whoever ends a job frees those that have waited for it. Here is found what that has missed:
    two ends at the same time whose processes have died, an end by a program that knows no edges.
    ``news`` is called when an end in this process has freed jobs, wherever it was written.
    """

    def __init__(self, store: Store, *, news: Callable[[], None]) -> None:
        self._store = store
        store.freed = news
        self._after = FIRST
        self._waiting = False  # in this walk
        self._next_sweep = float("-inf")

    def step(self) -> timedelta:
        """Look at some edges if it is time; return when to look again."""
        began = time.monotonic()
        if began >= self._next_sweep:
            self._next_sweep = began + SWEEP_EVERY.total_seconds()  # also if the sweep fails
            swept = self._store.sweep_edges(after=self._after, most=MOST_EDGES)
            self._after = swept.after
            self._waiting = self._waiting or swept.waiting
            self._next_sweep = began + self._pause(time.monotonic() - began)
        return timedelta(seconds=max(self._next_sweep - time.monotonic(), 0))

    def _pause(self, took: float) -> float:
        if self._after != FIRST:
            return min(took * PAUSE, SWEEP_EVERY.total_seconds())
        waiting, self._waiting = self._waiting, False
        return (SWEEP_EVERY if waiting else SWEEP_RARELY).total_seconds()
