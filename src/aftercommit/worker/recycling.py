"""When a worker process has done, or grown, enough, and a new one takes its place."""

import contextlib
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

try:
    import resource
except ImportError:  # Windows, where no worker process is ever started
    resource = None  # type: ignore[assignment]

from aftercommit.options.sizes import size

STATM = Path("/proc/self/statm")
NO_LIMIT = sys.maxsize


def resident() -> int:
    """Return how many bytes of memory this process occupies, with those that it shares.

    Where the system does not say, how many it once occupied at most.
    """
    with contextlib.suppress(OSError):
        return int(STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resource is None:
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class JobsPerProcess:
    """``--max-jobs-per-process``: how many more jobs this process may claim."""

    def __init__(self, most: int | None, *, used_up: Callable[[], None] = lambda: None) -> None:
        self._most = most
        self._when_used_up = used_up
        self._left = NO_LIMIT if most is None else most
        self._lock = threading.Lock()  # several aliases claim

    @property
    def left(self) -> int:
        """How many more."""
        return self._left

    @property
    def used_up(self) -> bool:
        """Whether there are none left. Jobs that are given back later change nothing then."""
        return self._left <= 0

    def claimed(self, number: int) -> None:
        """Count jobs that were claimed; a negative number: that go back unstarted."""
        if self._most is not None:
            with self._lock:
                self._left -= number
            if self.used_up:
                self._when_used_up()


class MemoryLimit:
    """``--max-memory``: whether this process occupies more than it may."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        # A limit that is too low for the project itself: a process that was replaced for it
        # before its first job would be replaced without end.
        self.first_jobs_only = most is not None and resident() > most

    @property
    def warning(self) -> str | None:
        """What to say at the start, if the limit is too low."""
        if not self.first_jobs_only or self._most is None:
            return None
        return (
            f"This worker process occupies {size(resident())} before its first job: more than "
            f"max_memory, {size(self._most)}. It is replaced as soon as a job has ended. Give "
            "--max-memory a size that leaves room for the jobs."
        )

    def exceeded(self, *, done: int, running: int) -> str | None:
        """Return what to say if this process is to be replaced: it occupies too much."""
        if self._most is None or not (done or (running and not self.first_jobs_only)):
            return None
        if (now := resident()) <= self._most:
            return None
        return (
            f"This worker process ({os.getpid()}) occupies {size(now)} of memory, more than "
            f"max_memory, {size(self._most)}. It claims no more jobs, and is replaced when the "
            "running ones have ended."
        )
