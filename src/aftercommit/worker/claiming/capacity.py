"""How many more jobs this process may hold."""

import threading
from collections.abc import Callable


class Capacity:
    """How many jobs a process may hold; shared by all its database aliases."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held = 0
        self._waiting: dict[Callable[[], None], int] = {}  # for how few to be held
        self._lock = threading.Lock()

    def free(self, *, prefetch: int = 0, otherwise: Callable[[], None]) -> int:
        """Return how many more jobs may be claimed: for free threads, and ``prefetch`` more.

        If there are none, or less than half of the prefetched ones, the answer is 0 and
        ``otherwise`` is called, once, as soon as there are: a claim for each job that ends
        would cost more than the jobs. Nothing is reserved: a database that is slow to
        answer must not keep capacity from the others, so two of them may together claim a
        few jobs more than there is room for.
        """
        enough = self._number + prefetch - max(1, prefetch // 2)
        with self._lock:
            if self._held <= enough:
                return self._number + prefetch - self._held
            self._waiting[otherwise] = enough
            return 0

    def occupy(self, number: int) -> None:
        """Count jobs that have been claimed."""
        with self._lock:
            self._held += number

    def vacate(self, number: int = 1) -> None:
        """Count jobs that are over, and call those who found too little capacity."""
        with self._lock:
            self._held -= number
            if not self._waiting:
                return
            held = self._held
            called = [call for call, enough in self._waiting.items() if held <= enough]
            for call in called:
                del self._waiting[call]
        for call in called:
            call()

    @property
    def all_free(self) -> bool:
        """Whether nothing is held."""
        return self._held == 0


class FinishedCounter:
    """Counts the runs that have ended in this process, and calls those who look for work.

    A run may have enqueued jobs, on any database.
    """

    def __init__(self) -> None:
        self.count = 0
        self.listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self) -> None:
        """Note one more."""
        with self._lock:
            self.count += 1
        for call in self.listeners:
            call()
