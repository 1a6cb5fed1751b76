"""The leases of this process: of each, how many jobs may still be running under it."""

import threading
from collections.abc import Iterable, Sequence
from uuid import UUID

from aftercommit.values import Claim


class Leases:
    """Knows which leases can be deleted: those of which the database has confirmed every end.

    A job whose end is not confirmed keeps its lease from being deleted, but not from being
    over: a lease is renewed for the runs that this process knows, and rescued otherwise.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left: dict[UUID, int] = {}  # jobs of each lease whose end is not confirmed
        self._ended: set[UUID] = set()

    def opened(self, claims: Iterable[Claim]) -> None:
        """Add the jobs that were claimed."""
        with self._lock:
            for claim in claims:
                self._left[claim.lease_id] = self._left.get(claim.lease_id, 0) + 1

    def confirmed(self, claim: Claim) -> None:
        """Note that a job does not run under this claim any more; call it once for a claim."""
        with self._lock:
            left = self._left[claim.lease_id] = self._left[claim.lease_id] - 1
            if not left:
                del self._left[claim.lease_id]
                self._ended.add(claim.lease_id)

    @property
    def ended(self) -> Sequence[UUID]:
        """The leases to delete: none of their jobs is running any more."""
        with self._lock:
            return list(self._ended)

    def deleted(self, lease_ids: Iterable[UUID]) -> None:
        """Forget leases that were deleted."""
        with self._lock:
            self._ended.difference_update(lease_ids)
