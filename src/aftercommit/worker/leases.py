"""The leases of this process: of each, which jobs may still be running under it."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from uuid import UUID

from aftercommit.values import Claim
from aftercommit.worker.runs import now

ENDED_TOGETHER = 8  # leases that a claim deletes; the heartbeat deletes fewer


@dataclass(slots=True)
class OpenLease:
    """A lease, and its jobs whose end the database has not confirmed."""

    claims: dict[int, Claim] = field(default_factory=dict)  # by the job's id
    since: float = field(default_factory=now)


class Leases:
    """Knows which leases can be deleted: those of which the database has confirmed every end.

    An end is confirmed by a COMMIT that was answered, or by an answer that the job does not
    run under this claim any more; not by an error.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[UUID, OpenLease] = {}
        self._ended: set[UUID] = set()

    def opened(self, claims: Iterable[Claim]) -> None:
        """Add the jobs that were claimed."""
        with self._lock:
            for lease_id, some in _by_lease(claims):
                if (lease := self._open.get(lease_id)) is None:
                    lease = self._open[lease_id] = OpenLease()
                for claim in some:
                    lease.claims[claim.job_id.int] = claim

    def confirmed(self, claim: Claim) -> None:
        """Note that a job does not run under this claim any more."""
        self.confirmed_all([claim])

    def confirmed_all(self, claims: Iterable[Claim]) -> None:
        """Note that jobs do not run under these claims any more."""
        with self._lock:
            for lease_id, some in _by_lease(claims):
                if (lease := self._open.get(lease_id)) is None:
                    continue
                for claim in some:
                    lease.claims.pop(claim.job_id.int, None)
                if not lease.claims:
                    del self._open[lease_id]
                    self._ended.add(lease_id)

    def is_open(self, lease_id: UUID) -> bool:
        """Return whether the end of a job of this lease is not confirmed."""
        with self._lock:
            return lease_id in self._open

    def unconfirmed(self, *, since: float) -> list[Claim]:
        """Return the claims made before ``since`` whose end is not confirmed."""
        with self._lock:
            old = [lease for lease in self._open.values() if lease.since < since]
            return [claim for lease in old for claim in lease.claims.values()]

    @property
    def ended(self) -> Sequence[UUID]:
        """The leases to delete: none of their jobs is running any more."""
        with self._lock:
            return list(self._ended)

    @property
    def ended_together(self) -> Sequence[UUID]:
        """The same once there are some: for a claim, which deletes them beside its own work."""
        ended = self.ended
        return ended if len(ended) >= ENDED_TOGETHER else ()

    def deleted(self, lease_ids: Iterable[UUID]) -> None:
        """Forget leases that were deleted."""
        with self._lock:
            self._ended.difference_update(lease_ids)


def _by_lease(claims: Iterable[Claim]) -> Iterator[tuple[UUID, Iterator[Claim]]]:
    """Yield neighbours that share a lease; a lookup by a UUID takes long for each of them."""
    return groupby(claims, key=attrgetter("lease_id"))
