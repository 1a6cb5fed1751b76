"""Ends of runs that cannot be written before another transaction has ended."""

from collections.abc import Collection, Sequence
from uuid import UUID

from django.db import OperationalError

from aftercommit.values import Ended

LOCK_NOT_AVAILABLE = 3572  # of MySQL; a conflict, see ``transient_errors``


class EndsHeldUp(OperationalError):
    """Open transactions keep the rows of some ended runs; the other ends are written.

    Write these a little later: to wait here would hold up all other ends of the process.
    """

    def __init__(self, job_ids: Collection[UUID], written: Sequence[Ended]) -> None:
        text = (
            f"the ends of {len(job_ids)} jobs wait for open transactions that enqueue what "
            "needs these jobs"
        )
        super().__init__(LOCK_NOT_AVAILABLE, text)
        self.job_ids = frozenset(job_ids)
        self.written = tuple(written)
