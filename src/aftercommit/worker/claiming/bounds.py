"""How many jobs of a queue with a limit one process claims: what its threads can begin with."""

from collections.abc import Callable, Iterable

from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.runs import Run

ANY = 1_000_000


class Bounds:
    """Leaves the places of such a queue to others that could use them.

    A job has its place from the claim on. Prefetched jobs would have places while they wait for
    a thread here, and threads of other processes wait for a place. So no process has more jobs
    of such a queue than it has threads. Messages are published many by one thread: of these it
    takes as many as there are places.
    """

    def __init__(self, rules: RulesInForce) -> None:
        self._rules = rules
        self._threads = ANY
        self._runs: Callable[[], Iterable[Run]] = tuple

    def of_process(self, *, threads: int, runs: Callable[[], Iterable[Run]]) -> None:
        """Say how many threads this process has, and what it has claimed."""
        self._threads, self._runs = threads, runs

    def limit(self, queue: str, limit: int) -> int:
        """Return how many jobs of a queue to claim, if it were ``limit`` otherwise."""
        if queue not in self._rules.queue_limits or queue.startswith(QUEUE_PREFIX):
            return limit
        here = sum(run.claim.queue == queue for run in self._runs())
        return min(limit, max(self._threads - here, 0))
