"""T3 to T5, T7, T8': a worker writes the outcome of a run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django.db import IntegrityError
from django.db.models import DO_NOTHING, F, ProtectedError
from django.db.models.functions import Greatest, Least

from aftercommit.models import UNSUCCESSFUL, Job, State
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.columns import LARGEST_COUNT
from aftercommit.store.savepoint import Savepoint
from aftercommit.store.table import Table
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


def with_error(errors: str, error: RunError, *, worker_id: UUID | None) -> str:
    """Return the JSON list ``errors`` with one more entry."""
    entries = read_errors(errors)
    for entry in entries[: -TRACEBACKS_KEPT + 1]:
        entry["traceback"] = ""
    entries.append(
        {
            "exception_class_path": error.exception_class_path,
            "traceback": error.traceback,
            "worker_id": str(worker_id),
        }
    )
    return json.dumps(entries)  # ASCII: NUL and lone surrogates become escapes


def _errors(claim: Claim, error: RunError) -> str:
    return with_error(claim.errors, error, worker_id=claim.worker_id)


class Finishing(Table):
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
            return next(iter(self._finish_and_delete([claim])), None)
        mine = self._mine(claim.job_id, claim.token)
        end = ending(claim, outcome)
        ended = []
        if end.state != State.READY:
            if mine.update(**changes(end)):
                ended = [Ended(claim.job_id, end.state)]
        elif mine.filter(cancel_requested=False).update(**changes(end)):
            ended = [Ended(claim.job_id, end.state)]
        elif mine.filter(cancel_requested=True).update(**changes(end.cancelled())):
            ended = [Ended(claim.job_id, State.CANCELLED)]
        return next(iter(self._ended(ended)), None)

    def finish_many(self, ended: Sequence[tuple[Claim, Outcome]]) -> list[Ended]:
        """Write the outcomes of several runs in one transaction; return what was written.

        Runs whose claims were lost are left out; the order is undefined.

        The rows are locked in the order of their ids, so two batches cannot deadlock.
        """
        with self._write():
            in_order = sorted(ended, key=lambda one: one[0].job_id)
            written = [self.finish(claim, outcome) for claim, outcome in in_order]
            return [one for one in written if one is not None]

    def _finish_and_delete(self, claims: Sequence[Claim]) -> list[Ended]:
        """Delete the rows of claimed runs that have succeeded, in one transaction.

        A row whose deletion is refused stays: it is written as succeeded, without the result. A
        model may protect it, or a foreign key, a trigger or a right that Django does not know.
        """
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
                return [end for one in claims for end in self._finish_and_delete([one])]
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
        running = self._jobs.filter(id__in=tokens, state=State.RUNNING)
        # The lock is the judge, as that of the UPDATE is for a row that stays.
        rows = self._locked(running).order_by("id").values_list("id", "token")
        mine = [job_id for job_id, token in rows if token == tokens[job_id]]
        self._jobs.filter(id__in=mine, state=State.RUNNING).delete()
        return [Ended(job_id, State.SUCCEEDED) for job_id in mine]


def without_gone(
    ended: Sequence[tuple[Claim, Outcome]],
) -> tuple[list[Claim], Sequence[tuple[Claim, Outcome]]]:
    """Return the claims whose rows go with their success, and the other outcomes."""
    gone = [claim for claim, outcome in ended if type(outcome) is SucceededAndGone]
    if not gone:
        return gone, ended
    return gone, [one for one in ended if type(one[1]) is not SucceededAndGone]
