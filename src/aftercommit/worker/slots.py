"""How many more jobs this process may hold, and how many it may still take in all."""

import os
import struct
import tempfile
import threading
from collections.abc import Callable
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where no worker process is ever started
    fcntl = None  # type: ignore[assignment]

NUMBER = struct.Struct("q")


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
    """``--max-jobs``: a number that all processes of a worker count down together.

    It is in a file that all of them have open. The lock on that file ends with its
    process: one that is killed leaves neither a lock nor a number half written.
    """

    def __init__(self, file: int | None) -> None:
        self._file = file  # a descriptor, or None for no limit
        self._lock = threading.Lock()  # that of the file does not keep threads apart

    @staticmethod
    def new_file(number: int) -> IO[bytes]:
        """Return a file without a name that holds so many tickets."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - of the caller
        file.write(NUMBER.pack(number))
        return file

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` tickets, and return how many there were."""
        if self._file is None:
            return wanted
        return -self._add(self._file, -wanted)

    def give(self, number: int) -> None:
        """Give unused tickets back."""
        if self._file is not None and number:
            self._add(self._file, number)

    @property
    def used_up(self) -> bool:
        """Whether no more jobs may be taken."""
        return self._file is not None and self._left(self._file) <= 0

    def _add(self, file: int, number: int) -> int:
        """Add tickets, or take them, but no more than there are; return the difference."""
        with self._lock:
            fcntl.lockf(file, fcntl.LOCK_EX)
            try:
                before = self._left(file)
                after = max(before + number, 0)
                os.pwrite(file, NUMBER.pack(after), 0)
                return after - before
            finally:
                fcntl.lockf(file, fcntl.LOCK_UN)

    @staticmethod
    def _left(file: int) -> int:
        (left,) = NUMBER.unpack(os.pread(file, NUMBER.size, 0))
        return int(left)
