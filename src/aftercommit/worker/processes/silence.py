"""How long a worker process has shown no sign of life: no thread of it gets its turn any more."""

from datetime import timedelta

from aftercommit.options.worker import WorkerConfig
from aftercommit.values import NO_TIME
from aftercommit.worker.config import Served
from aftercommit.worker.runs import now

LONGEST_STEP = timedelta(seconds=1)
# A short lease is no reason to kill a process that gets no processor for a moment.
SHORTEST_LIMIT = timedelta(seconds=10)


def longest_silence(config: WorkerConfig, serving: list[Served]) -> timedelta | None:
    """Return how long a process may show no sign of life before it is killed; None: for ever.

    By default the longest lease: a process that has not renewed its leases for so long has
    lost its jobs, whatever it does then.
    """
    if config.watchdog is None:
        leases = [one.options.lease for one in serving]
        return max([SHORTEST_LIMIT, *leases])
    return config.watchdog or None


class Silence:
    """Measures it by a number that a thread of the process raises; used by its parent."""

    def __init__(self) -> None:
        self._beats: int | None = None
        self._looked = now()
        self.lasted = NO_TIME

    def note(self, beats: int) -> None:
        """Note the number as it is now; zero: the process has not begun to raise it.

        Between two calls at most ``LONGEST_STEP`` counts: this process may have stood still.
        """
        at = now()
        step = min(timedelta(seconds=at - self._looked), LONGEST_STEP)
        self._looked = at
        self.lasted = self.lasted + step if beats and beats == self._beats else NO_TIME
        self._beats = beats
