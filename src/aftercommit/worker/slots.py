"""How many more jobs this process may hold, and how many it may still take in all."""

import threading
from collections.abc import Callable
from typing import Any


class Slots:
    """Free places for jobs, shared by all database aliases of a process."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._held = 0
        self._waiting: dict[Callable[[], None], int] = {}  # for how few to be held
        self._lock = threading.Lock()

    def free(self, *, ahead: int = 0, otherwise: Callable[[], None]) -> int:
        """Return how many places are free, with ``ahead`` of them in front of the threads.

        If there are none, or only the lesser half of those ahead, the answer is 0 and
        ``otherwise`` is called, once, as soon as there are: a claim for each job that ends
        would cost more than the jobs. Nothing is reserved: a database that is slow to
        answer must not keep places from the others, so two of them may together claim a
        few jobs more than there is room for.
        """
        enough = self._number + ahead - max(1, ahead // 2)
        with self._lock:
            if self._held <= enough:
                return self._number + ahead - self._held
            self._waiting[otherwise] = enough
            return 0

    def occupy(self, number: int) -> None:
        """Take places for jobs that have been claimed."""
        with self._lock:
            self._held += number

    def vacate(self, number: int = 1) -> None:
        """Give places back, and tell those who found too few."""
        with self._lock:
            self._held -= number
            if not self._waiting:
                return
            held = self._held
            told = [tell for tell, enough in self._waiting.items() if held <= enough]
            for tell in told:
                del self._waiting[tell]
        for tell in told:
            tell()

    @property
    def open(self) -> int:
        """Places without a job, not counting those ahead; negative if jobs wait."""
        return self._number - self._held

    @property
    def all_free(self) -> bool:
        """Whether nothing is held."""
        return self._held == 0


class Ends:
    """Counts the runs that have ended in this process, and tells those who look for work.

    What has ended may have enqueued more, on any database.
    """

    def __init__(self) -> None:
        self.count = 0
        self.listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self) -> None:
        """Note one more."""
        with self._lock:
            self.count += 1
        for tell in self.listeners:
            tell()


class Tickets:
    """``--max-jobs``: a number that all processes of a worker count down together."""

    def __init__(self, left: Any) -> None:
        self._left = left  # multiprocessing.Value, or None for no limit

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` tickets, and return how many there were."""
        if self._left is None:
            return wanted
        with self._left.get_lock():
            taken = min(wanted, self._left.value)
            self._left.value -= taken
        return int(taken)

    def give(self, number: int) -> None:
        """Give unused tickets back."""
        if self._left is not None and number:
            with self._left.get_lock():
                self._left.value += number

    @property
    def used_up(self) -> bool:
        """Whether no more jobs may be taken."""
        return self._left is not None and self._left.value <= 0
