"""How many jobs a process claims before it has a thread for them."""

from datetime import timedelta

from aftercommit.worker.runs import now

BUDGET = timedelta(milliseconds=100)  # of work that waits in front of the threads
MOST = 2000  # jobs
WEIGHT = 1 / 16  # of the latest run in the mean
FIRST_RUNS = 4  # before anything is claimed ahead


class Ahead:
    """Short jobs are claimed ahead, as many as the threads do in ``BUDGET``; long ones never.

    A job that waits here is one that no other worker can take. So the number follows what
    the latest runs took, and is zero until some have been seen.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._runs = 0
        self._mean = 0.0  # seconds
        self._closed_until = float("-inf")

    def ran(self, seconds: float) -> None:
        """Note how long a run has taken."""
        self._runs += 1
        weight = max(WEIGHT, 1 / self._runs)
        self._mean += (seconds - self._mean) * weight

    def close(self, span: timedelta) -> None:
        """Claim nothing ahead for a while, and measure anew."""
        self._closed_until = now() + span.total_seconds()
        self.measure_anew()

    def measure_anew(self) -> None:
        """Claim nothing ahead until some more runs have ended."""
        self._runs = 0

    @property
    def jobs(self) -> int:
        """How many jobs may wait for a thread."""
        if self._runs < FIRST_RUNS or now() < self._closed_until:
            return 0
        fitting = self._threads * BUDGET.total_seconds() / max(self._mean, 1e-6)
        return 0 if fitting < self._threads else min(int(fitting), MOST)
