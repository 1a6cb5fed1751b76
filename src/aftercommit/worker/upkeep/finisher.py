"""Writes the outcomes of runs in batches, and announces each one after its write."""

import logging
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from uuid import UUID

from django.db import Error, InterfaceError, OperationalError

from aftercommit.models import State
from aftercommit.safe_log import log_error
from aftercommit.store.base import Store
from aftercommit.store.held_up import EndsHeldUp
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
    RunResult,
    Succeeded,
    SucceededAndGone,
)
from aftercommit.worker.held import Runs
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.announcer import Announcer

logger = logging.getLogger("aftercommit")

LARGEST_BATCH = 1000
LARGEST_WRITE = 8 * 1024 * 1024  # bytes of results; a batch ends with the one that exceeds it
LONGEST_REASON = 400  # characters
UNWRITABLE = "(the outcome of this run could not be stored: {error})"

STATES: dict[type, str] = {
    Succeeded: State.SUCCEEDED,
    SucceededAndGone: State.SUCCEEDED,
    Failed: State.FAILED,
    Cancelled: State.CANCELLED,
    Retry: State.READY,
    Released: State.READY,
}

Ends = Sequence[tuple[Run, RunResult]]


class Finisher:
    """Accepts the results of runs from any thread; one thread writes them."""

    def __init__(
        self,
        store: Store,
        runs: Runs,
        announcer: Announcer,
        *,
        recorded: Callable[[Ends], None] = lambda _ends: None,
        write_first: Callable[[Ends], None] = lambda _batch: None,
    ) -> None:
        self._store = store
        self._runs = runs
        self._announcer = announcer
        self._recorded = recorded
        self._write_first = write_first  # what must be in the table before an outcome
        self._results: deque[tuple[Run, RunResult]] = deque()  # safe for threads
        self._batch: list[tuple[Run, RunResult]] = []  # not written yet
        self._broken = 0  # writes in a row that have ended with a lost connection
        self._unsure = False  # the last write of this batch may or may not be committed

    def put(self, run: Run, result: RunResult) -> None:
        """Queue the result of a run."""
        self._results.append((run, result))

    def put_all(self, ends: Ends) -> None:
        """Queue the results of runs, in their order."""
        self._results.extend(ends)

    @property
    def empty(self) -> bool:
        """Whether every queued result is written."""
        return not self._results and not self._batch

    @property
    def waiting(self) -> int:
        """How many results are queued."""
        return len(self._results)

    def write(self) -> bool:
        """Write the queued results; False if there were none.

        Raises ``django.db.Error`` if the database does not answer. The results stay queued
        then, so the caller can call again.
        """
        self._take()
        if not self._batch:
            return False
        self._write_first(self._batch)
        try:
            settled, locked = self._finish()
        except Error:
            self._unsure = True  # it may be committed although the answer was lost
            raise
        self._runs.remove_all([run.claim for run, _result in settled])
        self._announce_all(settled)
        self._batch = [one for one in self._batch if one[0].claim.job_id in locked]
        self._unsure = bool(locked)
        self._broken = 0
        for error in locked.values():
            raise error
        return True

    def _take(self) -> None:
        # A statement may contain a job once: a second result of the same job has to wait.
        taken = {run.claim.job_id.int for run, _result in self._batch}
        size = sum(size_of(result) for _run, result in self._batch)
        while len(self._batch) < LARGEST_BATCH and size < LARGEST_WRITE:
            try:
                one = self._results.popleft()
            except IndexError:
                return
            number = one[0].claim.job_id.int
            if number in taken:
                self._results.append(one)
                return
            taken.add(number)
            self._batch.append(one)
            size += size_of(one[1])

    def _finish(self) -> tuple[Sequence[tuple[Run, RunResult | None]], Mapping[UUID, Error]]:
        """Write the batch; return the settled results, and the errors of locked rows."""
        ends = [(run.claim, _timed(run, one)) for run, one in self._batch if not one.recorded]
        try:
            written = self._store.finish_many(ends) if ends else []
            if len(written) == len(ends) and all(one.state == State.SUCCEEDED for one in written):
                return self._batch, {}
            return self._settle(dict(written)), {}
        except EndsHeldUp as error:
            locked = dict.fromkeys(error.job_ids, error)
            return self._settle(dict(error.written), locked=locked), locked
        except (OperationalError, InterfaceError):
            # One outcome may be why the connection is lost, each time that it is sent.
            self._broken += 1
            if not self._store.answers() and (self._broken == 1 or not self._answers()):
                raise
        except Exception:  # an unforeseen value must not stop the other jobs
            logger.warning("A batch of outcomes was refused; the outcomes are written one by one")
        self._unsure = True  # a COMMIT may have succeeded before the connection was lost
        return self._one_by_one(ends)

    def _one_by_one(
        self, ends: Sequence[tuple[Claim, Outcome]]
    ) -> tuple[Sequence[tuple[Run, RunResult | None]], Mapping[UUID, Error]]:
        states: dict[UUID, str] = {}
        substitutes: dict[UUID, RunResult] = {}
        locked: dict[UUID, Error] = {}
        for claim, outcome in ends:
            try:
                self._write_one(claim, outcome, states, substitutes)
            except Error as error:
                if not self._is_conflict(error):
                    raise
                locked[claim.job_id] = error  # the same write may well succeed later
        return self._settle(states, substitutes, locked), locked

    def _write_one(
        self,
        claim: Claim,
        outcome: Outcome,
        states: dict[UUID, str],
        substitutes: dict[UUID, RunResult],
    ) -> None:
        try:
            ended = self._store.finish(claim, outcome)
        except Exception as error:
            if self._is_conflict(error) or not self._answers():
                raise
            ended = self._write_less(claim, outcome, error, substitutes)
        if ended is not None:
            states[ended.job_id] = ended.state

    def _write_less(
        self,
        claim: Claim,
        outcome: Outcome,
        error: Exception,
        substitutes: dict[UUID, RunResult],
    ) -> Ended | None:
        """Write an outcome that was refused without what may be too much of it.

        A job must never stay running because its outcome cannot be written.
        """
        without_history = claim._replace(errors="[]")
        # Of a success whose row should go, it is the DELETE that was refused.
        less = Succeeded() if type(outcome) is SucceededAndGone else outcome
        if less is not outcome or not isinstance(outcome, Succeeded):
            try:
                return self._store.finish(without_history, less)
            except Exception as second:
                if self._is_conflict(second) or not self._answers():
                    raise
        text = UNWRITABLE.format(error=f"{type(error).__name__}: {str(error)[:LONGEST_REASON]}")
        path = "aftercommit.errors.AftercommitError"
        substitute = Failed(RunError(exception_class_path=path, traceback=text))
        substitutes[claim.job_id] = RunResult(outcome=substitute)
        return self._store.finish(without_history, substitute)

    def _is_conflict(self, error: Exception) -> bool:
        vendor = self._store.connection.vendor
        return self._answers() and is_conflict(error, vendor=vendor)

    def _answers(self) -> bool:
        return self._store.answers() or self._store.answers_anew()

    def _settle(
        self,
        states: Mapping[UUID, str],
        substitutes: Mapping[UUID, RunResult] | None = None,
        locked: Collection[UUID] = (),
    ) -> Sequence[tuple[Run, RunResult | None]]:
        """Return how the runs of the batch ended in the table; None: the claim was lost."""
        settled: list[tuple[Run, RunResult | None]] = []
        for run, given in self._batch:
            job_id = run.claim.job_id
            if job_id in locked:
                continue
            result = (substitutes or {}).get(job_id, given)
            if result.recorded:
                settled.append((run, result))
            elif (state := states.get(job_id)) is not None:
                settled.append((run, _as_written(result, state)))
            else:
                settled.append((run, self._found(run.claim, result)))
        return settled

    def _found(self, claim: Claim, result: RunResult) -> RunResult | None:
        """Return what the row says after a write in doubt; None: the claim was lost."""
        if result.in_doubt is None and not self._unsure:
            return None
        job = self._store.job(claim.job_id)
        if job is None:
            return _gone(result)
        if (job.token, job.crashes) != (claim.token, claim.crashes):
            return None
        if result.in_doubt is not None and job.state == State.SUCCEEDED:
            return replace(result, outcome=result.in_doubt, exception=None)
        if job.state == STATES[type(result.outcome)]:
            return result
        by_request = job.state == State.CANCELLED and job.cancel_requested
        return _as_written(result, job.state) if by_request else None

    def _announce_all(self, settled: Sequence[tuple[Run, RunResult | None]]) -> None:
        """Announce the results, and say that they are recorded; None: the claim was lost."""
        silent: list[tuple[Run, RunResult]] = []
        told = self._announcer.good_end_is_told()
        for run, result in settled:
            if not told and result is not None and isinstance(result.outcome, Succeeded):
                silent.append((run, result))
            else:
                self._announce(run, result)
        if silent:  # what is not told takes long to find out for each of them
            try:
                self._recorded(silent)
            except BaseException as error:  # they are written, and must not be written again
                log_error("%d jobs: a listener failed", len(silent), error=error)

    def _announce(self, run: Run, result: RunResult | None) -> None:
        try:
            if result is None:
                self._announcer.lost(run.claim)
                return
            self._announcer.ended(run, result)
            self._recorded([(run, result)])
        except BaseException as error:  # the other runs of the batch must still be announced
            log_error("Job %s: a listener failed", run.claim.job_id, error=error)


def size_of(result: RunResult) -> int:
    """Return how many bytes the text of an outcome takes in a statement."""
    outcome = result.outcome
    if isinstance(outcome, Succeeded):  # first: as most are
        return 0 if result.recorded else len(outcome.result)
    if isinstance(outcome, (Retry, Failed)):
        return len(outcome.error.traceback)
    return 0


def _timed(run: Run, result: RunResult) -> Outcome:
    """Return the outcome of a run; its error, if it has one, says how long the body took."""
    outcome = result.outcome
    if isinstance(outcome, Succeeded):  # first: as most are
        return outcome
    error = getattr(outcome, "error", None)
    if error is None or run.duration is None:
        return outcome
    return replace(outcome, error=replace(error, took=run.duration))


def _gone(result: RunResult) -> RunResult | None:
    """Return the result of a run whose job has no row any more; None: the claim was lost."""
    if isinstance(result.in_doubt, SucceededAndGone):
        return replace(result, outcome=result.in_doubt, exception=None)
    return result if isinstance(result.outcome, SucceededAndGone) else None


def _as_written(result: RunResult, state: str) -> RunResult:
    """Return the result by the state in the table: a cancelled job is not ready again."""
    if state == STATES[type(result.outcome)]:
        return result
    error = result.outcome.error if isinstance(result.outcome, Retry) else None
    return replace(result, outcome=Cancelled(error))
