"""The run queue: runs that wait for a thread, and which of them are executed together."""

from collections import deque
from collections.abc import Sequence

from aftercommit.options.queues import is_in_order
from aftercommit.worker.in_flight import MOST
from aftercommit.worker.runs import Run


class RunQueue:
    """Returns runs in their order, several at once if they may be executed together.

    Not thread-safe: the pool calls it with its lock held.
    """

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._runs: deque[Run] = deque()

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, runs: Sequence[Run]) -> None:
        """Put runs at the end of the queue."""
        self._runs.extend(runs)

    def put_back(self, runs: Sequence[Run]) -> None:
        """Put runs of an assignment for which there was no time back to the front."""
        self._runs.extendleft(reversed(runs))

    def clear(self) -> list[Run]:
        """Remove and return everything."""
        taken = list(self._runs)
        self._runs.clear()
        return taken

    @property
    def oldest(self) -> Run | None:
        """The run that has waited longest."""
        return self._runs[0] if self._runs else None

    def take(self) -> list[Run]:
        """Remove and return one run, or a thread's share of runs to be executed together."""
        if not self._runs:
            return []
        most = min(MOST, 1 + len(self._runs) // self._threads)
        taken = [self._runs.popleft()]
        group = taken[0].facts.group
        if group is None or not group.accepts(taken[0]):
            return taken
        if is_in_order(taken[0].claim.queue):
            most = MOST  # in another thread they would wait for those of this one
        while self._runs and len(taken) < most and _joins(self._runs[0], taken[0]):
            taken.append(self._runs.popleft())
        return taken


def _joins(run: Run, first: Run) -> bool:
    group = run.facts.group
    if group is None or group is not first.facts.group:
        return False
    alike = is_in_order(run.claim.queue) == is_in_order(first.claim.queue)
    return alike and group.accepts(run)
