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

    It is in a file that all of them have open. The lock on that file ends with its
    process: one that is killed leaves neither a lock nor a number half written.
    """

    def __init__(self, file: int | None) -> None:
        self._file = file  # a descriptor, or None for no limit
        self._lock = threading.Lock()  # that of the file does not keep threads apart

    @staticmethod
    def new_file(number: int) -> IO[bytes]:
        """Return a file without a name that holds so many runs."""
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - of the caller
        file.write(NUMBER.pack(number))
        return file

    def take(self, wanted: int) -> int:
        """Take up to ``wanted`` runs, and return how many there were."""
        if self._file is None:
            return wanted
        return -self._add(self._file, -wanted)

    def give(self, number: int) -> None:
        """Give unused runs back."""
        if self._file is not None and number:
            self._add(self._file, number)

    @property
    def used_up(self) -> bool:
        """Whether no more runs may begin."""
        return self._file is not None and self._left(self._file) <= 0

    def _add(self, file: int, number: int) -> int:
        """Add runs, or take them, but no more than there are; return the difference."""
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
