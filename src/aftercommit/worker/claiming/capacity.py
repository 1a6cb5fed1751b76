"""How many more jobs this process may claim."""

import threading
from collections.abc import Callable


class Capacity:
    """How many claimed jobs a process may have; shared by all its database aliases.

    A job of a batch counts as a part of one. Its part is a power of two, so the sums are exact.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._held: float = 0
        self._waiting: dict[Callable[[], None], float] = {}  # callback: below how many held jobs
        self._lock = threading.Lock()

    def free(self, *, prefetch: int = 0, otherwise: Callable[[], None]) -> float:
        """Return how many jobs may be claimed: one for each free thread, ``prefetch`` more.

        While fewer than half of ``prefetch`` may be claimed, the answer is 0, because a
        claim for each job that ends would cost more than the job. ``otherwise`` is then
        called, once, as soon as there is enough capacity.

        Nothing is reserved, because a database that is slow to answer must not take
        capacity from the other aliases. So two aliases may together claim a few jobs more
        than the capacity.
        """
        enough = self._number + prefetch - max(1, prefetch // 2) + 1
        with self._lock:
            if self._held < enough:
                return self._number + prefetch - self._held
            self._waiting[otherwise] = enough
            return 0

    def occupy(self, number: float) -> None:
        """Add jobs that have been claimed."""
        with self._lock:
            self._held += number

    def vacate(self, number: float = 1) -> None:
        """Subtract jobs that have ended; call back aliases that now find enough capacity."""
        with self._lock:
            self._held -= number
            if not self._waiting:
                return
            held = self._held
            called = [call for call, enough in self._waiting.items() if held < enough]
            for call in called:
                del self._waiting[call]
        for call in called:
            call()

    @property
    def all_free(self) -> bool:
        """Whether no job is claimed."""
        return self._held == 0


class FinishedCounter:
    """Counts the runs that have ended in this process, and calls its listeners.

    In a drain the aliases listen: a run may have enqueued jobs, on any database.
    """

    def __init__(self) -> None:
        self.count = 0
        self.listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self, number: int) -> None:
        """Count so many more runs."""
        with self._lock:
            self.count += number
        for call in self.listeners:
            call()
