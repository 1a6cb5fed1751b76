"""Queues of messages with ordering keys: a process claims from them after its last outcomes."""

from collections.abc import Iterable
from uuid import UUID

from aftercommit.options.queues import is_in_order
from aftercommit.values import Claim
from aftercommit.worker.in_flight import MOST
from aftercommit.worker.leases import Leases


class InOrder:
    """Knows which of these queues have claims in this process whose outcomes are not written.

    The messages of a key are published in their order. Those behind the ones that are claimed
    would be claimed in vain, again and again, by the other threads.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._latest: dict[str, set[UUID]] = {}  # leases, by queue
        self._waits_for: set[UUID] = set()

    def begin(self) -> None:
        """Note that a new fetch begins."""
        self._waits_for = set()

    def must_wait(self, queue: str) -> bool:
        """Return whether outcomes have to be written before the next claim from a queue."""
        unwritten = set(filter(self._leases.is_open, self._latest.get(queue, ())))
        self._waits_for = self._waits_for | unwritten  # new: others iterate
        return bool(unwritten)

    def limit(self, queue: str, limit: int) -> int:
        """Return how many jobs to claim: of these messages what one thread takes."""
        return min(limit, MOST) if is_in_order(queue) else limit

    def claimed(self, queue: str, claims: Iterable[Claim]) -> None:
        """Note the claims from a queue."""
        if is_in_order(queue):
            self._latest[queue] = {claim.lease_id for claim in claims}

    @property
    def may_go_on(self) -> bool:
        """Whether the last fetch has left out a queue from which can be claimed now."""
        waits_for = self._waits_for
        return bool(waits_for) and not any(map(self._leases.is_open, waits_for))
