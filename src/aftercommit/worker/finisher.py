"""Writes outcomes in batches, and says so only when they are written."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from queue import Empty, SimpleQueue
from uuid import UUID

from django.db import Error, InterfaceError, OperationalError

from aftercommit.conflicts import is_conflict
from aftercommit.store.base import Store
from aftercommit.values import (
    Cancelled,
    Claim,
    Failed,
    Outcome,
    Ran,
    Released,
    Retry,
    RunError,
    Succeeded,
)

logger = logging.getLogger("aftercommit")

LARGEST_BATCH = 1000
UNWRITABLE = "(the outcome of this run could not be stored: {error})"

STATES: dict[type, str] = {
    Succeeded: "succeeded",
    Failed: "failed",
    Cancelled: "cancelled",
    Retry: "ready",
    Released: "ready",
}

Ends = list[tuple[Claim, Ran]]
Differing = dict[UUID, Outcome | None]  # written otherwise than handed over; None: not ours
Announce = Callable[[Claim, Ran], None]


class Finisher:
    """Takes the ends of runs from any thread; one thread writes them."""

    def __init__(
        self,
        store: Store,
        *,
        written: Announce,
        lost: Callable[[Claim], None],
        let_go: Callable[[Claim], None],
    ) -> None:
        self._store = store
        self._written = written
        self._lost = lost
        self._let_go = let_go
        self._ended: SimpleQueue[tuple[Claim, Ran]] = SimpleQueue()
        self._batch: Ends = []  # taken, and not written yet
        self._unsure = False  # the last write of this batch has broken off

    def put(self, claim: Claim, ran: Ran) -> None:
        """Hand over how a run ended."""
        self._ended.put((claim, ran))

    @property
    def empty(self) -> bool:
        """Whether everything handed over is written."""
        return self._ended.empty() and not self._batch

    @property
    def waiting(self) -> int:
        """How many ends nobody has looked at yet."""
        return self._ended.qsize()

    def write(self) -> bool:
        """Write what has been handed over; False if there was nothing.

        Raises ``django.db.Error`` when the database is away; nothing is forgotten then,
        so the caller may simply try again.
        """
        self._take()
        if not self._batch:
            return False
        try:
            differing, locked = self._finish()
            left = [one for one in self._batch if one[0].job_id in locked] if locked else []
            ends = self._real_ends(differing, locked)
        except Error:
            self._unsure = True  # perhaps it was carried out, and the answer is lost
            raise
        for claim, ran in ends:
            self._let_go(claim)
            self._tell(claim, ran)
        self._batch = left
        self._unsure = bool(locked)
        for error in locked.values():
            raise error
        return True

    def _real_ends(
        self, differing: Differing, locked: Collection[UUID]
    ) -> Sequence[tuple[Claim, Ran | None]]:
        """Return how the runs of the batch really ended; None if a claim was lost."""
        if not differing and not locked:
            return self._batch
        return [
            (claim, self._real_end(claim, ran, differing))
            for claim, ran in self._batch
            if claim.job_id not in locked
        ]

    def _real_end(self, claim: Claim, ran: Ran, differing: Differing) -> Ran | None:
        if ran.recorded or claim.job_id not in differing:
            return ran
        outcome = differing[claim.job_id]
        return self._found(claim, ran) if outcome is None else Ran(outcome=outcome)

    def _found(self, claim: Claim, ran: Ran) -> Ran | None:
        """Settle a write whose answer was lost: the row tells whether it was carried out."""
        if ran.in_doubt is None and not self._unsure:
            return None
        job = self._store.job(claim.job_id)
        if job is None or (job.token, job.crashes) != (claim.token, claim.crashes):
            return None
        if ran.in_doubt is not None and job.state == STATES[Succeeded]:
            return replace(ran, outcome=ran.in_doubt, exception=None)
        return ran if job.state == STATES[type(ran.outcome)] else None

    def _take(self) -> None:
        # One claim on a job at a time: two ends of the same job go into two statements.
        taken = {claim.job_id.int for claim, _ran in self._batch}
        while len(self._batch) < LARGEST_BATCH:
            try:
                one = self._ended.get_nowait()
            except Empty:
                return
            number = one[0].job_id.int
            if number in taken:
                self._ended.put(one)
                return
            taken.add(number)
            self._batch.append(one)

    def _finish(self) -> tuple[Differing, dict[UUID, Error]]:
        """Write the batch; return what is not as it was to be, and what was locked too long."""
        ends = [(claim, ran.outcome) for claim, ran in self._batch if not ran.recorded]
        try:
            ours = self._store.finish_many(ends) if ends else frozenset()
            if len(ours) == len(ends):
                return {}, {}
            return {
                claim.job_id: None for claim, _outcome in ends if claim.job_id not in ours
            }, {}
        except (OperationalError, InterfaceError):
            if not self._store.answers():
                raise
        except Exception:  # a value that nobody thought of must not stop all others
            logger.warning("A batch of outcomes was refused and is written one by one")
        self._unsure = True  # a COMMIT may have been carried out, and Django connected again
        return self._one_by_one(ends)

    def _one_by_one(
        self, ends: list[tuple[Claim, Outcome]]
    ) -> tuple[Differing, dict[UUID, Error]]:
        differing: Differing = {}
        locked: dict[UUID, Error] = {}
        for claim, outcome in ends:
            try:
                if (ended := self._one(claim, outcome)) is not outcome:
                    differing[claim.job_id] = ended
            except Error as error:
                if not self._is_conflict(error):
                    raise
                locked[claim.job_id] = error  # the same write may well succeed later
        return differing, locked

    def _one(self, claim: Claim, outcome: Outcome) -> Outcome | None:
        """Return what was written; None if the claim was lost."""
        try:
            return outcome if self._store.finish(claim, outcome) else None
        except Exception as error:
            if self._is_conflict(error) or not self._store.answers():
                raise
            # A job must never stay running because its outcome cannot be written.
            text = UNWRITABLE.format(error=type(error).__name__)
            path = "aftercommit.errors.AftercommitError"
            substitute = Failed(RunError(exception_class_path=path, traceback=text))
            ours = self._store.finish(claim._replace(errors="[]"), substitute)
            return substitute if ours else None

    def _is_conflict(self, error: Exception) -> bool:
        vendor = self._store.connection.vendor
        return self._store.answers() and is_conflict(error, vendor=vendor)

    def _tell(self, claim: Claim, ran: Ran | None) -> None:
        try:
            if ran is None:
                self._lost(claim)
            else:
                self._written(claim, ran)
        except BaseException:  # of whatever kind: the others of the batch are told as well
            logger.exception("Job %s: a listener failed", claim.job_id)
