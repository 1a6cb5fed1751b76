"""T3 to T5, T7, T8': a worker writes the outcome of a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db import IntegrityError
from django.db.models import DO_NOTHING, Exists, F, OuterRef, ProtectedError, QuerySet
from django.db.models.functions import Greatest, Least

from aftercommit.models import UNSUCCESSFUL, Dependency, Job, State
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.columns import LARGEST_COUNT
from aftercommit.store.notes import Notes
from aftercommit.store.savepoint import Savepoint
from aftercommit.stored import read_errors
from aftercommit.transient_errors import is_conflict
from aftercommit.values import (
    Cancelled,
    Claim,
    Ended,
    Failed,
    Outcome,
    Released,
    Retry,
    RunError,
    Succeeded,
    SucceededAndGone,
)

TRACEBACKS_KEPT = 10  # of the latest failed runs; older entries keep class and worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """An outcome in terms of columns, the same for every database."""

    state: str
    result: str | None = None
    errors: str | None = None  # None: unchanged
    delay: timedelta | None = None  # None: run_after is unchanged
    refund: int = 0  # attempts to subtract
    conflicts: int = 0  # conflicts to add
    keeps_worker: bool = False

    def cancelled(self) -> Self:
        """Return the ending to write instead if the job's cancellation was requested."""
        return replace(self, state=State.CANCELLED, delay=None)


RELEASED = Ending(state=State.READY, refund=1)  # due at once


def ending(claim: Claim, outcome: Outcome) -> Ending:
    """Translate an outcome into the columns of the job's row."""
    match outcome:
        case Succeeded(result):
            return Ending(state=State.SUCCEEDED, result=result, keeps_worker=True)
        case Retry(error, delay):
            return Ending(state=State.READY, errors=_errors(claim, error), delay=delay)
        case Failed(error):
            return Ending(state=State.FAILED, errors=_errors(claim, error))
        case Cancelled(error):
            errors = None if error is None else _errors(claim, error)
            return Ending(state=State.CANCELLED, errors=errors)
        case Released(delay, conflict):
            return Ending(
                state=State.READY,
                delay=delay or None,
                refund=1,
                conflicts=int(conflict),
            )


def changes(end: Ending) -> dict[str, Any]:
    """Return an ending as the arguments of ``QuerySet.update()``."""
    update: dict[str, Any] = {
        "state": end.state,
        "claimable": end.state == State.READY,
        "unsuccessful": end.state in UNSUCCESSFUL,
        "lease_until": None,
        "slot": None,
    }
    if end.state != State.READY:
        update |= {"finished_at": DatabaseNow(), "unique_lock": None}
    if end.result is not None:
        update["result"] = end.result
    if end.errors is not None:
        update["errors"] = end.errors
    if end.delay is not None:
        update["run_after"] = in_future(end.delay)
    if end.refund:
        # Not below zero: MySQL would refuse the statement.
        update["attempts"] = Greatest(F("attempts"), end.refund) - end.refund
    if end.conflicts:
        most = LARGEST_COUNT - end.conflicts
        update["conflicts"] = Least(F("conflicts"), most) + end.conflicts
    if not end.keeps_worker:
        update["worker_id"] = None
    return update


def with_error(
    errors: str,
    error: RunError,
    *,
    worker_id: UUID | None,
    claimed_at: datetime | None = None,
) -> str:
    """Return the JSON list ``errors`` with one more entry; ``claimed_at``: of that run."""
    entries = read_errors(errors)
    for entry in entries[: -TRACEBACKS_KEPT + 1]:
        entry["traceback"] = ""
    added: dict[str, Any] = {
        "exception_class_path": error.exception_class_path,
        "traceback": error.traceback,
        "worker_id": str(worker_id),
    }
    if claimed_at is not None:
        added["claimed_at"] = claimed_at.isoformat()
    if error.took is not None:
        added["took"] = round(error.took.total_seconds(), 6)
    entries.append(added)
    return json.dumps(entries)  # ASCII: NUL and lone surrogates become escapes


def _errors(claim: Claim, error: RunError) -> str:
    return with_error(claim.errors, error, worker_id=claim.worker_id, claimed_at=claim.claimed_at)


class Finishing(Notes):
    """Writes the outcomes of runs."""

    def savepoint(self, name: str) -> Savepoint:
        """Return a savepoint for one of several runs in the transaction that is open.

        Each savepoint of a transaction needs a ``name`` of its own. A few names that are used
        again are best, because drivers cache what they have prepared for a statement.
        """
        return Savepoint(self.connection, name)

    def finish(self, claim: Claim, outcome: Outcome) -> Ended | None:
        """Write the outcome of a claimed run; None if the claim was lost.

        A job that would be ready again is cancelled instead if its cancellation was requested.

        In a transaction of the caller, the write is part of it: as the last statement before
        COMMIT it decides whether the effects of the run are committed. It waits for another
        transaction that has locked the row. So after a COMMIT whose answer was lost it
        returns None if that COMMIT has succeeded.
        """
        if type(outcome) is SucceededAndGone:
            return next(iter(self._finish_and_delete([(claim, outcome)])), None)
        mine = self._mine(claim.job_id, claim.token)
        end = ending(claim, outcome)
        # One statement for a job that nobody waits for, as almost all are.
        if written := self._end(mine.filter(needed__isnull=True), claim.job_id, end):
            return self._ended([written])[0]
        with self._write():
            written = self._end(mine.filter(needed__isnull=False), claim.job_id, end)
            return written and self._ended([written], needed=[claim.job_id])[0]

    @staticmethod
    def _end(mine: QuerySet[Job], job_id: UUID, end: Ending) -> Ended | None:
        if end.state != State.READY:
            return Ended(job_id, end.state) if mine.update(**changes(end)) else None
        if mine.filter(cancel_requested=False).update(**changes(end)):
            return Ended(job_id, end.state)
        if mine.filter(cancel_requested=True).update(**changes(end.cancelled())):
            return Ended(job_id, State.CANCELLED)
        return None

    def finish_many(self, ended: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        """Write the outcomes of several runs in one transaction; return what was written.

        Runs whose claims were lost are left out; the order is undefined. Raises ``EndsHeldUp``
        when it has written the others, on MySQL and MariaDB: see there.

        The rows are locked in the order of their ids, so two batches cannot deadlock.
        """
        with self._write():
            in_order = sorted(ended, key=lambda one: one[0].job_id)
            written = [self.finish(claim, outcome) for claim, outcome in in_order]
            return [one for one in written if one is not None]

    def _finish_and_delete(self, ended: Sequence[tuple[Claim, Succeeded]]) -> list[Ended]:
        """Delete the rows of claimed runs that have succeeded, in one transaction.

        The row of a job that others wait for stays, with its result, until it is pruned. A row
        whose deletion is refused stays as well, without the result. A model may protect it, or a
        foreign key, a trigger or a right that Django does not know.
        """
        gone = self._delete_or_keep([claim for claim, _outcome in ended])
        deleted = {one.job_id for one in gone}
        kept = [(claim, end) for claim, end in ended if claim.job_id not in deleted]
        left = [(claim, Succeeded(end.result)) for claim, end in kept]
        return gone + (self._finish_needed(left) if left else [])

    def _finish_needed(self, ended: Sequence[tuple[Claim, Succeeded]]) -> list[Ended]:
        with self._write():
            found = [self.finish(claim, outcome) for claim, outcome in ended]
            return [one for one in found if one is not None]

    def _delete_or_keep(self, claims: Sequence[Claim]) -> list[Ended]:
        if not claims:
            return []
        refusal_would_be_late = self._in_transaction()
        try:
            with self._write():
                ended = self._ended(self._delete_running(claims))
                if refusal_would_be_late:
                    self._check_no_row_refers_to([one.job_id for one in ended])
                return ended
        except Exception as error:
            if self._is_no_refusal(error):
                raise
            if len(claims) > 1:
                return [end for one in claims for end in self._delete_or_keep([one])]
        return [] if (end := self.finish(claims[0], Succeeded())) is None else [end]

    def _is_no_refusal(self, error: Exception) -> bool:
        """Return whether the same DELETE may succeed later, or may be committed by now."""
        if isinstance(error, IntegrityError):  # as ProtectedError and RestrictedError are
            return False
        if is_conflict(error, vendor=self.connection.vendor):
            return True
        return self.connection.connection is None or not self.connection.is_usable()

    def _check_no_row_refers_to(self, deleted: Sequence[UUID]) -> None:
        """Raise now, and not at the caller's COMMIT, if the database keeps deleted jobs.

        Here it has said so at the DELETE.
        """

    def _delete_running(self, claims: Sequence[Claim]) -> list[Ended]:
        if any(one.on_delete is DO_NOTHING for one in Job._meta.related_objects):
            # The database may refuse at COMMIT, when it is too late to write something else.
            raise ProtectedError("A foreign key to Job is declared with DO_NOTHING.", set())
        tokens = {claim.job_id: claim.token for claim in claims}
        # The lock is the judge, as that of the UPDATE is for a row that stays.
        locked = self._lock_to_delete(list(tokens))
        mine = [job_id for job_id, token in locked if token == tokens[job_id]]
        gone = self._delete_unless_needed(mine)
        # Of the first run the worker knows whether it has noted anything.
        self.delete_notes([job_id for job_id in gone if tokens[job_id] > 1])
        return [Ended(job_id, State.SUCCEEDED) for job_id in gone]

    def _lock_to_delete(self, job_ids: Sequence[UUID]) -> list[tuple[UUID, int]]:
        """Lock running jobs that nobody needs against all; return them with their tokens.

        Never waits, and leaves out what others have locked: some only let nobody delete the row,
        because a job is going to wait for it, see ``GraphInserting._keep``.
        """
        running = self._jobs.filter(id__in=job_ids, state=State.RUNNING, needed__isnull=True)
        rows = running.select_for_update(skip_locked=True).order_by("id")
        return list(rows.values_list("id", "token"))

    def _delete_unless_needed(self, job_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Delete locked jobs, and return them, but for those that have edges.

        Whoever has committed these since the run began has not marked the job as needed yet.
        """
        edges = Dependency.objects.using(self.alias).filter(needs_id=OuterRef("id"))
        free = self._jobs.filter(~Exists(edges), id__in=job_ids, state=State.RUNNING)
        _all, by_model = free.delete()
        if by_model.get(Job._meta.label, 0) == len(job_ids):
            return job_ids
        left = set(self._jobs.filter(id__in=job_ids).values_list("id", flat=True))
        return [one for one in job_ids if one not in left]


def without_gone(
    ended: Sequence[tuple[Claim, Outcome]],
) -> tuple[list[tuple[Claim, Succeeded]], Sequence[tuple[Claim, Outcome]]]:
    """Return the runs whose rows go with their success, and the others."""
    gone: list[tuple[Claim, Succeeded]] = [
        (claim, end) for claim, end in ended if isinstance(end, SucceededAndGone)
    ]
    if not gone:
        return gone, ended
    return gone, [one for one in ended if type(one[1]) is not SucceededAndGone]
