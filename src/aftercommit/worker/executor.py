"""Runs the user's code and says how it ended; knows nothing of the queue's tables."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from functools import partial
from inspect import iscoroutinefunction
from typing import Any, NamedTuple, Protocol

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import Error, connections

from aftercommit._compat import TaskResult
from aftercommit.conf import BackendOptions
from aftercommit.errors import (
    AlreadyCommitted,
    PayloadError,
    PayloadTooLarge,
    TransactionBroken,
)
from aftercommit.failure import run_error
from aftercommit.payload import dump_result, load_arguments
from aftercommit.policy import Policy, policy_of
from aftercommit.tasks import Task
from aftercommit.values import (
    Claim,
    Failed,
    Outcome,
    Ran,
    Released,
    Succeeded,
)
from aftercommit.worker.context import JobContext
from aftercommit.worker.effects import Effects, ExecuteWrapper, Hold, Record, Stage
from aftercommit.worker.pace import Pace
from aftercommit.worker.runs import Run, now
from aftercommit.worker.verdict import verdict

logger = logging.getLogger("aftercommit")

NOTHING = Ran(outcome=Succeeded())  # returned


class Started(Protocol):
    """Tells that a run begins; returns Django's view of it if that is wanted."""

    def __call__(self, claim: Claim, task: Task, *, wanted: bool) -> TaskResult | None: ...


class Known(NamedTuple):
    """What is known about all runs of a task on a backend."""

    task: Task
    policy: Policy
    is_async: bool
    dump: Callable[[Any], str]
    pace: Pace


class Work(NamedTuple):
    """All that is known about a run before it begins."""

    run: Run
    known: Known
    args: list[Any]
    kwargs: dict[str, Any]
    result: TaskResult | None  # None: nobody has asked for it
    effects: Effects | None  # None: the run has no transaction that we would end


class Executor:
    """Runs claims of one database alias, each in the thread that calls ``run``."""

    def __init__(
        self,
        *,
        using: str,
        hold: Hold,
        record: Record,
        task_of: Callable[[Claim], tuple[Task, BackendOptions]],
        started: Started,
        at_once: Callable[[], int] = lambda: 1,
    ) -> None:
        self._using = using
        self._hold = hold
        self._record = record
        self._task_of = task_of
        self._started = started
        self._at_once = at_once
        self._known: dict[tuple[int, str], Known] = {}

    def run(self, run: Run) -> Ran:
        """Run a job to its end; never raises, whatever the task does."""
        work = self.prepare(run)
        ran = work if isinstance(work, Ran) else self._run_sync(work)
        if run.interrupted_at is not None:
            drop_connections()
        return ran

    def run_part(
        self, work: Work, savepoint: AbstractContextManager[Any], watch: ExecuteWrapper
    ) -> Ran:
        """Run an atomic job as a part of the transaction that is open.

        Raises what the body raises; only its savepoint is rolled back then. The outcome
        is the caller's to write into the transaction.
        """
        if work.effects is None:
            raise TypeError(f"{work.known.task.module_path} is not atomic")
        with work.effects.part(savepoint, watch) as finish:
            finish.return_value = self._timed_body(work)
        return Ran(outcome=work.effects.outcome or Succeeded(), recorded=True)

    async def arun(self, run: Run) -> Ran:
        """Run an async task on the running event loop; see ``run``."""
        work = self.prepare(run)
        if isinstance(work, Ran):
            return work
        async with ThreadSensitiveContext():  # one thread, so one connection, for its queries
            try:
                known = work.known
                call = partial(known.task.func, *self._arguments(work), **work.kwargs)
                return self._came_back(
                    work, await run.async_body(call, timeout=known.policy.timeout)
                )
            except BaseException as error:
                return self.ended_by(error, work)
            finally:
                await _close_async_connections()

    def task_of(self, run: Run) -> Task:
        """Return a run's task; raises if this process does not know it."""
        return self._look_up(run).task

    def is_async(self, run: Run) -> bool:
        """Tell whether a run's task is a coroutine function."""
        return self._look_up(run).is_async

    def is_short(self, run: Run) -> bool:
        """Tell whether a run may share its transaction: it is atomic, and known to be short."""
        known = self._look_up(run)
        return known.policy.atomic and known.policy.fuse and known.pace.short

    def _look_up(self, run: Run) -> Known:
        if run.known is None:
            run.known = self._known_of(run.claim)
        known: Known = run.known
        return known

    def _known_of(self, claim: Claim) -> Known:
        task, options = self._task_of(claim)
        name = (id(task), claim.backend)
        known = self._known.get(name)
        if known is None or known.task is not task:
            policy = policy_of(task, options)
            dump = partial(dump_result, task_path=task.module_path, limit=policy.max_payload)
            known = Known(task, policy, iscoroutinefunction(task.func), dump, Pace())
            self._known[name] = known
        return known

    def prepare(self, run: Run) -> Work | Ran:
        """Return all that is known about a run, or its end if it cannot begin."""
        if run.stale:
            return Ran(outcome=Released())  # this process stood still: someone else may have it
        try:
            return self._prepare(run)
        except BaseException as error:
            return Ran(outcome=Failed(run_error(error)), exception=error)

    def _prepare(self, run: Run) -> Work:
        claim = run.claim
        known = self._look_up(run)
        args, kwargs = load_arguments(claim.payload)
        in_transaction = known.policy.atomic or known.task.takes_context
        result = self._started(claim, known.task, wanted=known.task.takes_context)
        effects = self._effects(claim, known.dump) if in_transaction else None
        return Work(run, known, args, kwargs, result, effects)

    def _effects(self, claim: Claim, dump: Callable[[Any], str]) -> Effects:
        return Effects(claim, using=self._using, hold=self._hold, record=self._record, dump=dump)

    def _run_sync(self, work: Work) -> Ran:
        try:
            if work.known.policy.atomic and work.effects is not None:
                return self._atomic(work, work.effects)
            return self._came_back(work, self._body(work))
        except BaseException as error:
            return self.ended_by(error, work)

    def _atomic(self, work: Work, effects: Effects) -> Ran:
        with effects.transaction() as finish:
            finish.return_value = self._timed_body(work)
        return Ran(outcome=effects.outcome or Succeeded(), recorded=True)

    def _timed_body(self, work: Work) -> Any:
        began = now()
        try:
            return self._body(work)
        finally:
            work.known.pace.took(now() - began, among=self._at_once())

    def _body(self, work: Work) -> Any:
        _run, known, _args, kwargs, *_ = work
        function = known.task.call if known.is_async else known.task.func
        arguments = self._arguments(work)
        return work.run.body(function, arguments, kwargs, timeout=known.policy.timeout)

    def _arguments(self, work: Work) -> list[Any]:
        if work.result is None or work.effects is None or not work.known.task.takes_context:
            return work.args
        return [self._context(work, work.result, work.effects), *work.args]

    def _context(self, work: Work, result: TaskResult, effects: Effects) -> JobContext:
        def enter_commit() -> Any:
            if effects.stage is not Stage.CLOSED:
                raise AlreadyCommitted
            return effects.transaction()

        return JobContext(
            task_result=result,
            enter_commit=enter_commit,
            is_cancel_requested=lambda: work.run.cancel_requested or work.run.lost,
        )

    def _came_back(self, work: Work, value: Any) -> Ran:
        effects = work.effects
        if effects is not None:
            if effects.failure is not None:
                raise effects.failure  # of context.commit(); the task has swallowed it
            if effects.stage is Stage.COMMITTED and effects.outcome:
                return Ran(outcome=effects.outcome, recorded=True)
        return NOTHING if value is None else Ran(outcome=self._returned(work, value))

    def _returned(self, work: Work, value: Any) -> Outcome:
        try:
            return Succeeded(work.known.dump(value))
        except (PayloadError, PayloadTooLarge) as error:
            return Failed(run_error(error))  # what it did is done: again is no better

    def ended_by(self, error: BaseException, work: Work) -> Ran:
        """Return how a run ended that raised ``error``."""
        effects = work.effects
        if effects is None:
            return self._failed(error, work, conflict=False)
        if effects.stage is Stage.COMMITTED and effects.outcome:
            report_afterwards(work.run, error)
            return Ran(outcome=effects.outcome, recorded=True)
        if isinstance(error, TransactionBroken):
            work.known.pace.keep_apart()
        conflict = effects.broken_off(error)
        return self._failed(error, work, conflict=conflict, in_doubt=effects.in_doubt)

    def _failed(
        self,
        error: BaseException,
        work: Work,
        *,
        conflict: bool,
        in_doubt: Succeeded | None = None,
    ) -> Ran:
        outcome = verdict(error, work.run.claim, work.known.policy, conflict=conflict)
        return Ran(outcome=outcome, exception=error, in_doubt=in_doubt)


def report_afterwards(run: Run, error: BaseException) -> None:
    """Say that a run is done whatever was raised after its commit."""
    logger.error(
        "Job %s is done, but its task or an on_commit() callback raised after the commit",
        run.claim.job_id,
        exc_info=error,
    )


def drop_connections() -> None:
    """Drop what an interrupt may have struck while an answer was half read."""
    for connection in connections.all(initialized_only=True):
        with suppress(Error):
            connection.close()


async def _close_async_connections() -> None:
    """Close those of the present async task; they may be broken already."""
    try:
        await sync_to_async(connections.close_all)()
    except Exception:
        logger.debug("A connection of an async task could not be closed", exc_info=True)
