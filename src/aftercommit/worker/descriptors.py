"""Whether this process can still open files and connections."""

import errno
import os
import time
from contextlib import suppress
from datetime import timedelta

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# Kept open, and closed when the others are used up: a connection to write the outcomes needs
# one, on SQLite three.
RESERVE = 8
# A task may still be opening files when they are found to be used up: it would take the reserve
# as well. After this time that of tasks which go on is needed more.
STILL_OPENING = timedelta(seconds=2)
NEAR = 8  # so many below the limit are as good as none: one more connection must succeed


class Descriptors:
    """Watches for a leak: a process without descriptors fails every job that it claims."""

    def __init__(self) -> None:
        self.limit = _limit()
        self._reserve: list[int] = []
        self._used_up_since: float | None = None
        self._source = os.open(os.devnull, os.O_RDONLY)
        with suppress(OSError):
            while len(self._reserve) < RESERVE:
                self._reserve.append(os.dup(self._source))

    def are_used_up(self) -> bool:
        """Return whether they are. Takes about a microsecond.

        The system gives the lowest number that is free, so that number tells how many are open.
        """
        try:
            lowest = os.dup(self._source)
            os.close(lowest)
        except OSError as error:  # another errno: a task has closed ours
            used_up = error.errno in {errno.EMFILE, errno.ENFILE}
        else:
            used_up = lowest >= self.limit - NEAR
        if used_up and self._used_up_since is None:
            self._used_up_since = time.monotonic()
        return used_up

    def release_reserve(self, *, in_task: bool) -> None:
        """Let the worker have the reserve if they are used up. ``in_task``: a task runs."""
        if self._used_up_since is None:
            return
        since = timedelta(seconds=time.monotonic() - self._used_up_since)
        if in_task and since < STILL_OPENING:
            return
        while self._reserve:
            with suppress(OSError, IndexError):
                os.close(self._reserve.pop())


def _limit() -> float:
    if resource is None:
        return float("inf")
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)
