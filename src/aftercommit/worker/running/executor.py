"""Runs the user's code and returns how it ended; does not use the queue's tables."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from copy import copy
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from aftercommit._compat import BaseTask, TaskResult
from aftercommit.enqueue.signature import misfit
from aftercommit.errors import (
    PayloadError,
    PayloadTooLarge,
    TransactionBroken,
)
from aftercommit.safe_log import log_error
from aftercommit.values import RETURNED_NONE, Claim, Failed, Released, RunResult, Succeeded
from aftercommit.worker.contexts import lend, take_back
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.notes import Keeper, keep_log
from aftercommit.worker.running.arguments import arguments_of
from aftercommit.worker.running.atomic.transaction import (
    Record,
    Stage,
    TaskTransaction,
)
from aftercommit.worker.running.connections import close_async_connections, drop_connections
from aftercommit.worker.running.context import FindGroup, JobContext, PauseRate, context_of
from aftercommit.worker.running.failure import UNPRINTABLE, Unreadable, has_a, readable, run_error
from aftercommit.worker.running.masking import hidden, hiding
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.running.passage import Passage
from aftercommit.worker.runs import Run, now

Answer = TypeVar("Answer")
BeginReads = Callable[[Sequence[Run]], None]  # of runs whose function is called once
NOTHING = RunResult(outcome=RETURNED_NONE)  # the body returned None


class Starts(Protocol):
    """Announces that runs begin; the part of the announcer that this room needs."""

    def started(self, claim: Claim, task: BaseTask, *, wanted: bool) -> TaskResult | None:
        """Announce that a run begins; return Django's ``TaskResult`` of it if ``wanted``."""

    def start_is_heard(self) -> bool:
        """Return whether that calls code of the project."""

    def start_is_told(self) -> bool:
        """Return whether that tells anybody, the log as well."""


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
        starts: Starts,
        pause_rate: PauseRate = lambda _job_id, _until: None,
        find_group: FindGroup = lambda _job_id: None,
        keeper: Keeper,
        begin_reads: BeginReads | None = None,
    ) -> None:
        self.round_trip = float("inf")  # seconds; the shortest that was measured
        self.using = using
        self._record = record
        self._starts = starts
        self._pause_rate, self._find_group = pause_rate, find_group
        self._keeper = keeper
        self._begin_reads = begin_reads  # None: no router asks for it

    def run(self, run: Run) -> RunResult:
        """Run a job and return its result; never raises, whatever the task does."""
        prepared = self.prepare(run)
        if isinstance(prepared, RunResult):
            result = prepared
        else:
            result = in_context(run, self._run_sync, prepared)
            in_context(run, take_back)
        result = hiding(run, result)
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
        raised: list[BaseException] = []
        async with ThreadSensitiveContext():  # its queries run in one thread, on one connection
            prepared = await self.prepare_async(run)
            if isinstance(prepared, RunResult):
                return prepared
            try:
                if run.facts.middleware is None:
                    return await self._arun_task(prepared, raised)

                async def call() -> dict[Run, RunResult]:
                    return {run: await self._arun_task(prepared, raised)}

                return (await self._passage(prepared, call).ago())[run]
            finally:
                run.context = copy_context()
                await close_async_connections(raised)

    async def _arun_task(self, prepared: PreparedRun, raised: list[BaseException]) -> RunResult:
        run, facts = prepared.run, prepared.run.facts
        try:
            call = partial(facts.task.func, *self._arguments(prepared), **prepared.kwargs)
            value = await run.async_body(call, timeout=facts.policy.timeout)
            return hiding(run, self.returned(prepared, value))
        except BaseException as error:
            raised.append(error)
            return self.ended_by(error, prepared)

    async def prepare_async(self, run: Run) -> PreparedRun | RunResult:
        """Prepare a run on the event loop; see ``prepare``."""
        if not self._starts.start_is_heard() and not run.facts.policy.read_from:
            return self._prepare_here(run)
        # Receivers may be sync and use the database, which an event loop's thread must not do.
        # Neither may a wait for a replica.
        return await sync_to_async(self._prepare_here)(run)

    def prepare(self, run: Run) -> PreparedRun | RunResult:
        """Return what the body needs, or the result of the run if the body cannot begin.

        The context of the run begins here. It is a new one and no copy of the thread's: values
        in there can be shared and change, such as the scope of Sentry or the decimal context.
        """
        self.begin_anew(run)
        return in_context(run, self._prepare_here, run)

    def prepare_together(self, runs: Sequence[Run]) -> list[tuple[Run, PreparedRun | RunResult]]:
        """Prepare runs for one call of their function; see ``prepare``.

        If nothing but our own code is called for each of them, they have no context yet.
        """
        if runs[0].facts.upgrade is not None or self._starts.start_is_told():
            return [(run, self.prepare(run)) for run in runs]
        return [(run, self._prepare_here(run, told=False)) for run in runs]

    def context_of_call(self, run: Run) -> Context | None:
        """Give a run a context for one call; return the one with which it was prepared."""
        before = run.context
        if before is None:
            self.begin_anew(run)
        else:
            run.context = before.copy()
        return before

    def begin_anew(self, run: Run) -> None:
        """Give a run a new context."""
        run.context = Context()
        run.context.run(lend)

    def begin_call(self, runs: Sequence[Run]) -> None:
        """Choose where one call of a function reads, and keep its log with the first run.

        Called in the context of the first run, before each call; waits for a replica if the task
        wants one.
        """
        first = runs[0]
        if self._begin_reads is not None:
            self._begin_reads(runs)
        if first.facts.policy.keep_log is not None:
            keep_log(first, self._keeper)

    async def begin_call_async(self, runs: Sequence[Run]) -> None:
        """Do it on the event loop, whose thread must not wait for a replica."""
        if runs[0].facts.policy.read_from:
            await sync_to_async(self.begin_call)(runs)
        else:
            self.begin_call(runs)

    def _prepare_here(self, run: Run, *, told: bool = True) -> PreparedRun | RunResult:
        # If the process was suspended, another worker may have the job. One that somebody has
        # cancelled is cancelled by its release.
        if run.stale or run.lost or run.cancel_requested:
            return RunResult(outcome=Released())
        try:
            return self._prepare(run, told=told)
        except BaseException as error:
            result = RunResult(outcome=Failed(run_error(error)), exception=readable(error))
            return hiding(run, result)

    def _prepare(self, run: Run, *, told: bool) -> PreparedRun:
        claim, facts = run.claim, run.facts
        if facts.problem is not None:
            raise facts.problem
        args, kwargs = arguments_of(run)
        if facts.batch is None:
            self.begin_call([run])
        if not told:
            return PreparedRun(run, args, kwargs, None, None)
        takes_context = facts.task.takes_context
        result = self._starts.started(claim, facts.task, wanted=takes_context)
        transaction = None
        if (facts.policy.atomic and facts.batch is None) or takes_context:
            transaction = TaskTransaction(
                claim,
                using=self.using,
                record=self._record,
                succeed=facts.succeed,
                interrupted=run.was_interrupted,
            )
        return PreparedRun(run, args, kwargs, result, transaction)

    def _run_sync(self, prepared: PreparedRun, *, inside: bool = False) -> RunResult:
        if prepared.run.facts.middleware is not None and not inside:
            return self._passage(prepared, partial(self._as_results, prepared)).go()[prepared.run]
        transaction = prepared.transaction
        try:
            if transaction is not None and prepared.run.facts.policy.atomic:
                return self._run_atomic(prepared, transaction)
            return self.returned(prepared, self._body(prepared))
        except BaseException as error:
            return self.ended_by(error, prepared)

    def _as_results(self, prepared: PreparedRun) -> dict[Run, RunResult]:
        return {prepared.run: self._run_sync(prepared, inside=True)}

    def _passage(self, prepared: PreparedRun, call: Callable[[], Any]) -> Passage:
        return Passage(
            [prepared],
            using=self.using,
            call=call,
            judge=lambda error, _run: self.ended_by(error, prepared),
        )

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
        arguments = self._arguments(prepared)
        return run.body(
            facts.sync_function, arguments, prepared.kwargs, timeout=facts.policy.timeout
        )

    def _arguments(self, prepared: PreparedRun) -> list[Any]:
        run, args, _kwargs, result, transaction = prepared
        if not run.facts.task.takes_context or result is None or transaction is None:
            return args
        return [self.context(run, result, transaction), *args]

    def context(
        self, run: Run, result: TaskResult, transaction: TaskTransaction | None
    ) -> JobContext:
        """Return the context of a run for its task; None: of one in a batch."""
        return context_of(
            run,
            result,
            transaction,
            pause_rate=self._pause_rate,
            find_group=self._find_group,
            keeper=self._keeper,
        )

    def returned(self, prepared: PreparedRun, value: Any) -> RunResult:
        """Return the result of a run whose body has returned; the body may have committed."""
        transaction = prepared.transaction
        if transaction is not None:
            if transaction.failure is not None:
                raise transaction.failure  # from context.commit(); the task caught it
            if transaction.stage is Stage.COMMITTED and transaction.outcome:
                return RunResult(outcome=transaction.outcome, recorded=True)
        if value is None and prepared.run.facts.success is Succeeded:
            return NOTHING
        return _result(prepared, value)

    def ended_by(self, error: BaseException, prepared: PreparedRun) -> RunResult:
        """Return the result of a run that raised ``error``; never raises."""
        try:
            result = self._ended_by(error, prepared)
            described = getattr(result.outcome, "error", None)
            if described is None or described.traceback != UNPRINTABLE:
                return hiding(prepared.run, result)
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
        outcome = outcome_of(error, run.claim, run.facts.policy_of(run.claim), conflict=conflict)
        return RunResult(outcome=outcome, exception=error, in_doubt=in_doubt)


def in_context(run: Run, function: Callable[..., Answer], *args: Any) -> Answer:
    """Call a function in the context of a run, which began with ``prepare()``."""
    return function(*args) if run.context is None else run.context.run(function, *args)


def _result(prepared: PreparedRun, value: Any) -> RunResult:
    try:
        return RunResult(outcome=prepared.run.facts.succeed(value))
    except (PayloadError, PayloadTooLarge) as error:
        # Its effects are committed: a retry would not help. The copy has no traceback, whose
        # frames have the value: that is freed before the run is over.
        return RunResult(outcome=Failed(run_error(error)), exception=copy(error))


def report_afterwards(run: Run, error: BaseException) -> None:
    """Log an exception after the commit; it does not change the outcome."""
    clear_frames(error)
    error = hidden(error, run.secrets) if run.secrets else error
    log_error(
        "Job %s is done, but its task or an on_commit() callback raised after the commit",
        run.claim.job_id,
        error=error,
    )
