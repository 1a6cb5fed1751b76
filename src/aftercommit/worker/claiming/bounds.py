"""How many jobs of a queue with a limit or a rate one process can begin with."""

from collections.abc import Callable, Iterable

from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.worker.runs import Run

ANY = 1_000_000


class Bounds:
    """Lets others have slots of such a queue that they could use at once.

    A job has its slot from the claim on. Prefetched jobs would have slots while they wait for
    a thread here, and threads of other processes wait for a slot. So a claim is told how many
    jobs of the queue threads here could begin with, beside those that they have: it takes these,
    or half of the slots that are free. Messages are published many by one thread.

    A job of a queue with a rate counts as started from the claim on. A prefetched one would start
    later, and nearer to the next, so of these a claim takes no more than threads can begin with.
    """

    def __init__(self) -> None:
        self._threads = ANY
        self._runs: Callable[[], Iterable[Run]] = tuple
        self.short_of_slots = False  # the last fetch has left jobs where they wait for slots

    def of_process(self, *, threads: int, runs: Callable[[], Iterable[Run]]) -> None:
        """Say how many threads this process has, and what it has claimed."""
        self._threads, self._runs = threads, runs

    def needed(self) -> int:
        """Return how many more jobs keep all threads busy.

        None, while the ends of runs under limits are to be written: those free slots, for the
        jobs that wait in front.
        """
        runs = list(self._runs())
        if any(run.is_over and run.claim.limit_key is not None for run in runs):
            return 0
        return max(self._threads - len(runs), 0)

    def slots_used_up(self) -> None:
        """Note that a claim has left due jobs where they are, for want of slots."""
        self.short_of_slots = True

    def startable(self, queue: str) -> int:
        """Return how many more jobs of a queue the threads can begin with."""
        if queue.startswith(QUEUE_PREFIX):
            return ANY
        here = sum(run.claim.queue == queue for run in self._runs())
        return max(self._threads - here, 0)
