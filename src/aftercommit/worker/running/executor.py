"""Runs the user's code and returns how it ended; does not use the queue's tables."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from contextvars import Context, copy_context
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import Error, connections

from aftercommit._compat import BaseTask, TaskResult
from aftercommit.enqueue.payload import load_arguments
from aftercommit.enqueue.signature import misfit
from aftercommit.errors import (
    PayloadError,
    PayloadTooLarge,
    TransactionBroken,
)
from aftercommit.safe_log import log_error
from aftercommit.values import Claim, Failed, Outcome, Released, RunResult, Succeeded
from aftercommit.worker.contexts import lend, take_back
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.running.atomic.transaction import (
    Record,
    Stage,
    TaskTransaction,
)
from aftercommit.worker.running.context import PauseRate, context_of
from aftercommit.worker.running.failure import UNPRINTABLE, Unreadable, has_a, readable, run_error
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.runs import Run, now

Answer = TypeVar("Answer")
NOTHING = RunResult(outcome=Succeeded())  # the body returned None


class Started(Protocol):
    """Announces that a run begins; returns Django's ``TaskResult`` of it if ``wanted``."""

    def __call__(self, claim: Claim, task: BaseTask, *, wanted: bool) -> TaskResult | None: ...


class PreparedRun(NamedTuple):
    """A run whose body can be called."""

    run: Run
    args: list[Any]
    kwargs: dict[str, Any]
    result: TaskResult | None  # None: neither the task nor a signal receiver needs it
    transaction: TaskTransaction | None  # None: the body runs in autocommit mode


class Executor:
    """Runs jobs of one database alias, each in the thread that calls ``run``."""

    def __init__(
        self,
        *,
        using: str,
        record: Record,
        started: Started,
        heard: Callable[[], bool] = lambda: True,
        pause_rate: PauseRate = lambda _job_id, _until: None,
    ) -> None:
        self.round_trip = float("inf")  # seconds; the shortest that was measured
        self._using = using
        self._record = record
        self._started = started
        self._pause_rate = pause_rate
        self._heard = heard  # whether ``started`` calls code of the project

    def run(self, run: Run) -> RunResult:
        """Run a job and return its result; never raises, whatever the task does."""
        prepared = self.prepare(run)
        if isinstance(prepared, RunResult):
            result = prepared
        else:
            result = in_context(run, self._run_sync, prepared)
            in_context(run, take_back)
        if result.exception is not None:
            clear_frames(result.exception)  # those of the worker, which hold a result
        if run.interrupted_at is not None:
            drop_connections()
        return result

    def run_part(
        self, prepared: PreparedRun, savepoint: AbstractContextManager[Any]
    ) -> RunResult:
        """Run an atomic job in a savepoint of the transaction that is open.

        Raises what the body raises; then only the savepoint is rolled back. The caller
        writes the outcome in the same transaction.
        """
        transaction = prepared.transaction
        if transaction is None:
            raise TypeError(f"{prepared.run.facts.task.module_path} is not atomic")
        with transaction.part(savepoint) as finish:
            finish.return_value = in_context(
                prepared.run, self._timed_body, prepared, transaction
            )
            in_context(prepared.run, take_back)
        return RunResult(outcome=transaction.outcome or Succeeded(), recorded=True)

    async def arun(self, run: Run) -> RunResult:
        """Run an async task on the running event loop; see ``run``."""
        facts = run.facts
        raised: list[BaseException] = []
        async with ThreadSensitiveContext():  # its queries run in one thread, on one connection
            prepared = await self._prepare_async(run)
            if isinstance(prepared, RunResult):
                return prepared
            try:
                call = partial(facts.task.func, *self._arguments(prepared), **prepared.kwargs)
                value = await run.async_body(call, timeout=facts.policy.timeout)
                return self._returned(prepared, value)
            except BaseException as error:
                raised.append(error)
                return self.ended_by(error, prepared)
            finally:
                run.context = copy_context()
                await _close_async_connections(raised)

    async def _prepare_async(self, run: Run) -> PreparedRun | RunResult:
        if not self._heard():
            return self._prepare_here(run)
        # Receivers may be sync and use the database, which an event loop's thread must not do.
        return await sync_to_async(self._prepare_here)(run)

    def prepare(self, run: Run) -> PreparedRun | RunResult:
        """Return what the body needs, or the result of the run if the body cannot begin.

        The context of the run begins here. It is a new one and no copy of the thread's: values
        in there can be shared and change, such as the scope of Sentry or the decimal context.
        """
        run.context = Context()
        run.context.run(lend)
        return run.context.run(self._prepare_here, run)

    def _prepare_here(self, run: Run) -> PreparedRun | RunResult:
        # If the process was suspended, another worker may have the job. One that somebody has
        # cancelled is cancelled by its release.
        if run.stale or run.lost or run.cancel_requested:
            return RunResult(outcome=Released())
        try:
            return self._prepare(run)
        except BaseException as error:
            return RunResult(outcome=Failed(run_error(error)), exception=readable(error))

    def _prepare(self, run: Run) -> PreparedRun:
        claim, facts = run.claim, run.facts
        if facts.problem is not None:
            raise facts.problem
        args, kwargs = load_arguments(claim.payload)
        takes_context = facts.task.takes_context
        result = self._started(claim, facts.task, wanted=takes_context)
        transaction = None
        if facts.policy.atomic or takes_context:
            transaction = TaskTransaction(
                claim,
                using=self._using,
                record=self._record,
                succeed=facts.succeed,
                interrupted=run.was_interrupted,
            )
        return PreparedRun(run, args, kwargs, result, transaction)

    def _run_sync(self, prepared: PreparedRun) -> RunResult:
        transaction = prepared.transaction
        try:
            if transaction is not None and prepared.run.facts.policy.atomic:
                return self._run_atomic(prepared, transaction)
            return self._returned(prepared, self._body(prepared))
        except BaseException as error:
            return self.ended_by(error, prepared)

    def _run_atomic(self, prepared: PreparedRun, transaction: TaskTransaction) -> RunResult:
        with transaction.open() as finish:
            finish.return_value = self._timed_body(prepared, transaction)
        return RunResult(outcome=transaction.outcome or Succeeded(), recorded=True)

    def _timed_body(self, prepared: PreparedRun, transaction: TaskTransaction) -> Any:
        """Call the body of an atomic task, and note how long it took without round trips."""
        self.round_trip = min(self.round_trip, transaction.round_trip)
        began = now()
        try:
            return self._body(prepared)
        finally:
            in_transit = transaction.statements * self.round_trip
            prepared.run.facts.durations.took(max(now() - began - in_transit, 0))

    def _body(self, prepared: PreparedRun) -> Any:
        run, facts = prepared.run, prepared.run.facts
        function = facts.task.call if facts.is_async else facts.task.func
        arguments = self._arguments(prepared)
        return run.body(function, arguments, prepared.kwargs, timeout=facts.policy.timeout)

    def _arguments(self, prepared: PreparedRun) -> list[Any]:
        run, args, _kwargs, result, transaction = prepared
        if not run.facts.task.takes_context or result is None or transaction is None:
            return args
        return [context_of(run, result, transaction, self._pause_rate), *args]

    def _returned(self, prepared: PreparedRun, value: Any) -> RunResult:
        """Return the result of a run whose body has returned; the body may have committed."""
        transaction = prepared.transaction
        if transaction is not None:
            if transaction.failure is not None:
                raise transaction.failure  # from context.commit(); the task caught it
            if transaction.stage is Stage.COMMITTED and transaction.outcome:
                return RunResult(outcome=transaction.outcome, recorded=True)
        if value is None and prepared.run.facts.success is Succeeded:
            return NOTHING
        return RunResult(outcome=_outcome(prepared, value))

    def ended_by(self, error: BaseException, prepared: PreparedRun) -> RunResult:
        """Return the result of a run that raised ``error``; never raises."""
        try:
            result = self._ended_by(error, prepared)
            described = getattr(result.outcome, "error", None)
            if described is None or described.traceback != UNPRINTABLE:
                return result
            return replace(result, exception=Unreadable(error))
        except BaseException:  # the task's exception raises when its attributes are read
            return self._ended_by(Unreadable(error), prepared)

    def _ended_by(self, error: BaseException, prepared: PreparedRun) -> RunResult:
        run, transaction = prepared.run, prepared.transaction
        conflict, in_doubt = False, None
        if transaction is not None:
            if transaction.stage is Stage.COMMITTED and transaction.outcome:
                report_afterwards(run, error)
                return RunResult(outcome=transaction.outcome, recorded=True)
            if has_a(error, TransactionBroken):
                run.facts.durations.keep_apart()
            conflict, in_doubt = transaction.broken_off(error), transaction.in_doubt
        unfit = misfit(error, run.facts.task, prepared.args, prepared.kwargs)
        if unfit is not None:
            return RunResult(outcome=Failed(run_error(unfit)), exception=unfit)
        outcome = outcome_of(error, run.claim, run.facts.policy, conflict=conflict)
        return RunResult(outcome=outcome, exception=error, in_doubt=in_doubt)


def in_context(run: Run, function: Callable[..., Answer], *args: Any) -> Answer:
    """Call a function in the context of a run, which began with ``prepare()``."""
    return function(*args) if run.context is None else run.context.run(function, *args)


def _outcome(prepared: PreparedRun, value: Any) -> Outcome:
    try:
        return prepared.run.facts.succeed(value)
    except (PayloadError, PayloadTooLarge) as error:
        return Failed(run_error(error))  # its effects are committed: a retry would not help


def report_afterwards(run: Run, error: BaseException) -> None:
    """Log an exception after the commit; it does not change the outcome."""
    clear_frames(error)
    log_error(
        "Job %s is done, but its task or an on_commit() callback raised after the commit",
        run.claim.job_id,
        error=error,
    )


def drop_connections() -> None:
    """Close the thread's connections: an interrupt may have left an answer half read."""
    for connection in connections.all(initialized_only=True):
        with suppress(Error):
            connection.close()


async def _close_async_connections(raised: list[BaseException]) -> None:
    """Close the connections of this async task; they may be broken already."""

    def close() -> None:
        for error in raised:
            clear_frames(error)
        connections.close_all()

    try:
        await sync_to_async(close)()
    except Exception as error:
        log_error(
            "A connection of an async task could not be closed", error=error, level=logging.DEBUG
        )
