"""How many jobs a process claims before a thread is free for them."""

from datetime import timedelta

BUDGET = timedelta(milliseconds=100)  # in which the threads can run all prefetched jobs
MOST = 2000  # jobs
WEIGHT = 1 / 16  # of the latest run in the mean
FIRST_RUNS = 4  # to be measured before a job is prefetched


class Prefetch:
    """Short jobs are prefetched, as many as the threads run in ``BUDGET``; long jobs never.

    No other worker can claim a prefetched job. So the number of prefetched jobs follows the
    mean duration of the latest runs, and is zero until the first runs have been measured. Jobs
    in one call of a batch are one run here, as in ``Capacity``.
    (Without prefetching a worker runs 966 instead of 18,749 jobs a second, on two cores.)
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._runs = 0
        self._mean = 0.0  # seconds

    def ran(self, seconds: float) -> None:
        """Note the duration of a run."""
        runs = self._runs + 1  # read once: another thread may set it to 0 at any time
        self._runs = runs
        weight = max(WEIGHT, 1 / runs)
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
