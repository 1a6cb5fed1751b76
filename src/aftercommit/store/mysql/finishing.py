"""The outcomes of runs on MySQL and MariaDB: in batches that wait for no row that others keep."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple
from uuid import UUID

from aftercommit.models import State
from aftercommit.store.claim import marks
from aftercommit.store.columns import id_from
from aftercommit.store.finish import without_gone
from aftercommit.store.held_up import EndsHeldUp
from aftercommit.store.mysql.kept_rows import MySQLKeptRows
from aftercommit.store.mysql.sql import HELD, SUCCEED
from aftercommit.values import Cancelled, Claim, Ended, Failed, Outcome, Succeeded

Ends = Sequence[tuple[Claim, Outcome]]


class LockedRow(NamedTuple):
    """A running job, as ``HELD`` has locked it."""

    token: int
    needed: bool
    cancel_requested: bool


class MySQLFinishing(MySQLKeptRows):
    """Writes the outcomes of runs."""

    @abstractmethod
    def _by_id(self) -> AbstractContextManager[None]:
        """Force statements to find rows by the primary key."""

    @abstractmethod
    def _check_outcome(self, claim: Claim, outcome: Outcome) -> None:
        """Raise ``PayloadTooLarge`` if the server would not take it."""

    def finish(self, claim: Claim, outcome: Outcome) -> Ended | None:
        """See ``Store.finish``; raises ``PayloadTooLarge`` if the server would not take it."""
        if not isinstance(outcome, Succeeded) and not self._in_transaction():
            return next(iter(self.finish_many([(claim, outcome)])), None)
        self._check_outcome(claim, outcome)
        with self._by_id():
            return super().finish(claim, outcome)

    def finish_many(self, ended: Ends) -> list[Ended]:
        """Lock all rows, then write equal outcomes together; see ``Store.finish_many``.

        Raises ``EndsHeldUp`` instead of waiting for those who keep rows, unless the caller has a
        transaction, in which an end may wait.
        """
        good = [one for one in ended if isinstance(one[1], Succeeded)]
        if len(good) == len(ended) <= 1:
            return super().finish_many(ended)
        for claim, outcome in good:  # each of the others by ``finish``
            self._check_outcome(claim, outcome)
        may_wait = len(good) == len(ended) or self._in_transaction()
        with self._write():
            rows = self._lock_running([claim.job_id for claim, _outcome in ended])
            held = [
                (claim, outcome)
                for claim, outcome in ended
                if claim.job_id in rows and rows[claim.job_id].token == claim.token
            ]
            kept = set() if may_wait else self._kept(_unsuccessful(held, rows))
            free = [one for one in held if one[0].job_id not in kept]
            written = self._finish_locked(free, rows)
        if kept:
            raise EndsHeldUp(kept, written)
        return written

    def _lock_running(self, job_ids: Collection[UUID]) -> dict[UUID, LockedRow]:
        ids = [self._uuid(job_id) for job_id in job_ids]
        rows = self._run(HELD.format(ids=marks(ids)), ids)
        return {id_from(job_id): LockedRow._make(row) for job_id, *row in rows}

    def _finish_locked(self, ended: Ends, rows: Mapping[UUID, LockedRow]) -> list[Ended]:
        gone, others = without_gone(ended)
        written: list[Ended | None] = [*self._finish_and_delete(gone)]
        alike: dict[str, list[UUID]] = {}  # by result; most tasks return None
        for claim, outcome in others:
            if isinstance(outcome, Succeeded):
                alike.setdefault(outcome.result, []).append(claim.job_id)
            else:
                written.append(self.finish(claim, outcome))
        needed = [job_id for job_id, row in rows.items() if row.needed]
        for result, of in alike.items():
            self._run(SUCCEED.format(ids=marks(of)), [result, *map(self._uuid, of)])
            written += self._ended([Ended(one, State.SUCCEEDED) for one in of], needed=needed)
        return [one for one in written if one is not None]


def _unsuccessful(ended: Ends, rows: Mapping[UUID, LockedRow]) -> list[UUID]:
    """Return the jobs that will have failed, or be cancelled, by these ends."""
    return [
        claim.job_id
        for claim, outcome in ended
        if isinstance(outcome, Failed | Cancelled)
        or (rows[claim.job_id].cancel_requested and not isinstance(outcome, Succeeded))
    ]
