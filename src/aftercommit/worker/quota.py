"""``--max-jobs``: how many runs the processes of a worker may still begin."""

import os
import struct
import tempfile
import threading
from typing import IO

try:
    import fcntl
except ImportError:  # Windows, where no worker process is ever started
    fcntl = None  # type: ignore[assignment]

NUMBER = struct.Struct("q")


class RunQuota:
    """A number that all processes of a worker count down together.

    The number is in a file that every process has open, and is changed under a lock on the
    file. When a process is killed, the system releases the lock, and the number is whole.
    """

    def __init__(self, file: int | None) -> None:
        self._file = file  # a descriptor, or None for no limit
        self._lock = threading.Lock()  # the file's lock works between processes only

    @staticmethod
    def new_file(number: int) -> IO[bytes]:
        """Return an unnamed file with the given number of runs."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - the caller closes it
        file.write(NUMBER.pack(number))
        return file

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` runs; return how many were left to take."""
        if self._file is None:
            return wanted
        return -self._add(self._file, -wanted)

    def give(self, number: int) -> None:
        """Add runs that were taken and not used."""
        if self._file is not None and number:
            self._add(self._file, number)

    @property
    def used_up(self) -> bool:
        """Whether no more runs may begin."""
        return self._file is not None and self._left(self._file) <= 0

    def _add(self, file: int, number: int) -> int:
        """Add ``number``, which may be negative, but not below zero; return the change."""
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
