"""How many jobs of a queue one thread takes: what was claimed last has shown it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aftercommit.values import Claim
    from aftercommit.worker.facts import TaskFacts

HELD = 2000  # jobs that a process holds beside a batch for each thread


class BatchQueues:
    """Knows the queues whose last claim had nothing but jobs of tasks with ``batch_size``.

    The tasks of jobs are known only when these are claimed. If the next ones are of another kind
    all the same, those that no thread has time for are released.
    """

    def __init__(self) -> None:
        self._sizes: dict[str, int] = {}

    @property
    def largest(self) -> int:
        """The largest number of jobs that one thread takes."""
        return max(self._sizes.values(), default=1)

    def size(self, queue: str) -> int:
        """Return how many jobs of a queue one thread takes."""
        return self._sizes.get(queue, 1)

    def claimed(self, queue: str, claims: "Sequence[tuple[Claim, TaskFacts]]") -> None:
        """Note what a claim has brought."""
        batches = [facts.batch for _claim, facts in claims if facts.batch is not None]
        if batches and len(batches) == len(claims):
            self._sizes[queue] = min(one.size for one in batches)
        elif self._sizes:
            self._sizes.pop(queue, None)

    def most(self, *, threads: int, held: int) -> int | None:
        """Return how many jobs may be claimed beside those that are held; None: any number."""
        return max(HELD + threads * self.largest - held, 1) if self._sizes else None
