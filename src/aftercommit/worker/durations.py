"""How long the bodies of a task take."""

from datetime import timedelta

SHORT = timedelta(milliseconds=5)
FIRST_RUNS = 4  # to be measured before a task can be called short
WEIGHT = 1 / 16  # of the latest run in the mean


class MeanDuration:
    """The mean time that the bodies of an atomic task take, without round trips.

    The mean and not the maximum, because a body whose thread waits for the GIL looks long.
    One run of a second raises the mean so far that about the next forty runs of the task
    are not expected to be short.
    """

    def __init__(self) -> None:
        self._runs = 0
        self._mean = 0.0  # seconds
        self._apart = False

    def took(self, seconds: float) -> None:
        """Note how long a body has run."""
        self._runs += 1
        self._mean += (seconds - self._mean) * max(WEIGHT, 1 / self._runs)

    def keep_apart(self) -> None:
        """Never call this task short again: its statements would affect other runs."""
        self._apart = True

    @property
    def short(self) -> bool:
        """Whether a run is expected to take less than ``SHORT``."""
        measured = self._runs >= FIRST_RUNS
        return measured and self._mean < SHORT.total_seconds() and not self._apart
