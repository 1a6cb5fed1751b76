"""An atomic batch: the effects of one call and the completion of its jobs in one commit."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from aftercommit.enqueue.batches import BatchCall, End, take_returned
from aftercommit.errors import ClaimLost, TransactionBroken
from aftercommit.store.base import Store
from aftercommit.values import RETURNED_NONE, Claim, Ended, Released, RunResult, Succeeded
from aftercommit.worker.running.atomic.transaction import Stage, TaskTransaction
from aftercommit.worker.running.calls import calls_of
from aftercommit.worker.running.executor import (
    Executor,
    PreparedRun,
    in_context,
    report_afterwards,
)
from aftercommit.worker.running.failure import has_a
from aftercommit.worker.running.outcome import asked_for
from aftercommit.worker.running.passage import Passage
from aftercommit.worker.runs import Run, now

Results = dict[Run, RunResult]
RECORDED = RunResult(outcome=RETURNED_NONE, recorded=True)
SEARCH = timedelta(seconds=5)  # for the jobs that let a batch fail; later ones are retried
MOST_CALLS = 50  # of one search: two bad jobs in a thousand take no more


class NothingDone(Exception):
    """No call of a batch has succeeded, so there is nothing to commit."""


class AtomicBatch:
    """Runs jobs in one transaction, which is rolled back if one of them cannot be recorded.

    If the function raises, it is called again with each half of the calls, and so on, until the
    bad ones are found: nothing of theirs was committed. If a claim was lost, or a result cannot
    be stored, it is called again without that job.
    """

    def __init__(self, executor: Executor, store: Store) -> None:
        self._executor = executor
        self._store = store
        self._results: Results = {}
        self._calls = 0

    def run(self, ready: Sequence[PreparedRun]) -> Results:
        """Run all of them; return their results."""
        began = now()
        waiting = [list(ready)]
        while waiting:
            group = waiting.pop(0)
            self._calls += 1
            first = group[0].run
            as_prepared = self._executor.context_of_call(first)
            attempt = Attempt(self._executor, self._store, group)
            self._results |= attempt.run()
            left = [one for one in group if one.run not in self._results]
            if left and attempt.error is not None:
                late = now() - began > SEARCH.total_seconds() or self._calls >= MOST_CALLS
                if late or len(left) == 1:
                    self._results |= attempt.ended_by_error(left)
                    continue
                half = len(left) // 2
                waiting[:0] = [left[:half], left[half:]]
            elif left:
                waiting.insert(0, left)
            if left:
                first.context = as_prepared  # without what the call has done, which is undone
        return self._results


class Attempt:
    """One call of the function, in one transaction."""

    def __init__(self, executor: Executor, store: Store, group: Sequence[PreparedRun]) -> None:
        self.error: BaseException | None = None  # of the function: halves may do better
        self._executor = executor
        self._store = store
        self._group = group
        self._first = group[0].run
        self._calls: Sequence[BatchCall] = ()
        self._good: dict[Run, tuple[Claim, Succeeded]] = {}
        self._spoiled: Results = {}  # jobs that cannot be part of the transaction
        self._transaction = TaskTransaction(
            self._first.claim,
            using=store.alias,
            record=self._record,
            succeed=self._succeed,
            interrupted=self._first.was_interrupted,
        )

    def run(self) -> Results:
        """Return the results of those that have one now; the others are to be repeated."""
        lost = [one.run for one in self._group if one.run.lost or one.run.stale]
        if lost:
            return {run: RunResult(outcome=Released()) for run in lost}
        self._calls = calls_of(self._executor, self._group)
        in_context(self._first, self._executor.begin_call, [one.run for one in self._group])
        if self._first.facts.middleware is None:
            return self._ended(partial(in_context, self._first, self._in_transaction))
        return in_context(self._first, self._within_middleware)

    def _ended(self, call: Callable[[], None]) -> Results:
        try:
            call()
        except BaseException as error:
            results = self._after(error)
            # Alone, it has no halves: it is not called again.
            return results or (self.ended_by_error(self._group) if self._is_single else {})
        return self._committed()

    @property
    def _is_single(self) -> bool:
        return len(self._group) == 1

    def _within_middleware(self) -> Results:
        by_run = {one.run: one for one in self._group}
        passage = Passage(
            self._group,
            using=self._store.alias,
            call=partial(self._ended, self._in_transaction),
            judge=lambda error, run: self._ended_by(error, by_run[run]),
            failure=lambda: self.error,
        )
        return passage.go()

    def ended_by_error(self, prepared: Sequence[PreparedRun]) -> Results:
        """Return the results of jobs that the error of the function ends."""
        error = self.error
        if error is None:
            raise TypeError("The function has not raised.")
        return {one.run: self._ended_by(error, one) for one in prepared}

    def _in_transaction(self) -> None:
        first = self._first
        timeout = first.facts.policy.timeout
        with self._transaction.open() as finish:
            call = partial(first.body, first.facts.sync_function, [self._calls])
            finish.return_value = call(timeout=timeout)

    def _succeed(self, returned: Any) -> Succeeded:
        """Take the results; raise if one of them is not to be committed."""
        path = self._first.facts.task.module_path
        take_returned(self._calls, returned, task_path=path)
        for one, call in zip(self._group, self._calls, strict=True):
            end = call.end or End(None)
            if end.error is not None:
                continue
            try:
                outcome = one.run.facts.succeed(end.value)
            except BaseException as error:
                self._spoiled[one.run] = self._executor.ended_by(error, one)
                raise
            self._good[one.run] = (one.run.claim, outcome)
        if not self._good:
            raise NothingDone
        return Succeeded()

    def _record(self, _claim: Claim, _outcome: Succeeded) -> Ended | None:
        written = self._store.finish_many(list(self._good.values()))
        if len(written) == len(self._good):
            return written[0]
        self._note_lost({one.job_id for one in written})
        return None

    def _note_lost(self, written: set[UUID]) -> None:
        for run in self._good:
            if run.claim.job_id not in written:
                error = ClaimLost(job_id=run.claim.job_id)
                self._spoiled[run] = RunResult(outcome=Released(), exception=error)

    def _committed(self) -> Results:
        """Return the results after COMMIT; of jobs that the function has failed as well."""
        results = {
            run: RECORDED
            if outcome is RETURNED_NONE
            else RunResult(outcome=outcome, recorded=True)
            for run, (_claim, outcome) in self._good.items()
        }
        return results | self._as_said()

    def _as_said(self) -> Results:
        """Return the results of the jobs that the function has ended with an error."""
        said = zip(self._group, self._calls, strict=True)
        return {
            one.run: self._executor.ended_by(call.end.error, one)
            for one, call in said
            if call.end is not None and call.end.error is not None
        }

    def _after(self, error: BaseException) -> Results:
        stage = self._transaction.stage
        if stage is Stage.COMMITTED:
            report_afterwards(self._first, error)
            return self._committed()
        if isinstance(error, NothingDone):
            return self._as_said()
        if self._spoiled and not self._transaction.broken_off(error):
            return self._spoiled
        self.error = error
        if stage is Stage.COMMITTING:
            return self._in_doubt(error)
        if self._is_of_all(error):
            return self.ended_by_error(self._group)
        return {}

    def _is_of_all(self, error: BaseException) -> bool:
        """Return whether each job ends with the error, because halves would do no better."""
        interrupted = self._first.interrupted_at is not None
        if interrupted or not issubclass(type(error), Exception):
            return True
        if self._transaction.broken_off(error) or has_a(error, TransactionBroken):
            return True
        return asked_for(error) is not None

    def _in_doubt(self, error: BaseException) -> Results:
        """Return the results after an answer to COMMIT that was lost: the rows will tell."""
        results = self.ended_by_error([one for one in self._group if one.run in self._good])
        for run, (_claim, outcome) in self._good.items():
            if results[run].in_doubt is not None:
                results[run] = replace(results[run], in_doubt=outcome)
        return results | self._as_said()

    def _ended_by(self, error: BaseException, one: PreparedRun) -> RunResult:
        return self._executor.ended_by(error, one._replace(transaction=self._transaction))
