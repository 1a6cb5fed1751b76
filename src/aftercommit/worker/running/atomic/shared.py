"""Several short atomic runs in one transaction: each in its savepoint, one COMMIT for all."""

import secrets
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import wraps
from typing import Any

from django.db import Error, connections, transaction

from aftercommit.errors import ClaimLost, TransactionBroken
from aftercommit.safe_log import log_error
from aftercommit.store.base import Store
from aftercommit.store.savepoint import Savepoint
from aftercommit.values import Released, RunResult
from aftercommit.worker.facts import AtWork
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.running.atomic.transaction import Stage
from aftercommit.worker.running.connections import drop_connections
from aftercommit.worker.running.executor import (
    Executor,
    PreparedRun,
    in_context,
    report_afterwards,
)
from aftercommit.worker.running.failure import has_a
from aftercommit.worker.running.statements import may_be_shared, server_side, watching
from aftercommit.worker.running.tenants import Tenant, return_to, tenant_of
from aftercommit.worker.runs import Run, now

BUDGET = timedelta(milliseconds=10)  # without round trips; then no further run is added
LONGEST = timedelta(milliseconds=50)  # with round trips, because rows stay locked meanwhile


class NotShared(Error):
    """A statement was refused in a shared transaction; its run is repeated alone."""


class Apart(Exception):
    """These runs cannot share a transaction."""


# The first savepoint of a shared transaction: the one that is released before COMMIT. A body
# cannot set it again, because it cannot know its name.
FIRST_SAVEPOINT = f"aftercommit_{secrets.token_hex(8)}"


class SharedTransactions:
    """Runs atomic jobs together if their tasks are short.

    If a body raises, only its own savepoint is rolled back. If the whole transaction fails,
    all its effects are rolled back, and each run is repeated in a transaction of its own. So
    it is if a body has ended the transaction and begun another one, in whatever way: then the
    first savepoint is gone.
    """

    def __init__(self, executor: Executor, store: Store) -> None:
        self._executor = executor
        self._store = store

    def accepts(self, run: Run) -> bool:
        """Return whether a run may share its transaction."""
        return run.facts.durations.short

    def most(self, _run: Run) -> int | None:
        """Return None: each thread takes its share."""
        return None

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, RunResult]]:
        """Run the first of ``runs``: at least one, more as the budget allows. Never raises.

        ``at_work`` shows the runs that may crash the process at the moment: one while its
        body is called, all of them while the outcomes are written.
        """
        using = self._store.alias
        together = SharedTransaction(self._executor, self._store, at_work=at_work)
        try:
            with transaction.atomic(using=using, durable=True):
                transaction.on_commit(together.committed, using=using)
                with watching(connections[using], together.watch):
                    together.add_all(runs)
                with at_work(together.good_runs):
                    together.record()
        except BaseException as error:
            together.failed(error)
        return together.settle() or [self._first(runs, at_work)]

    async def arun(self, runs: Sequence[Run], _at_work: AtWork) -> list[tuple[Run, RunResult]]:
        """Refuse it: an async task cannot be atomic."""
        raise TypeError(f"{runs[0].facts.task.module_path} is async")

    def _first(self, runs: Sequence[Run], at_work: AtWork) -> tuple[Run, RunResult]:
        """Run the first one in a transaction of its own."""
        with at_work(runs[:1]):
            return runs[0], self._executor.run(runs[0])


class SharedTransaction:
    """The runs of one shared transaction, and its stage."""

    def __init__(self, executor: Executor, store: Store, *, at_work: AtWork) -> None:
        self._executor = executor
        self._store = store
        self._connection: Any = store.connection
        self._at_work = at_work
        self._begun: list[Run] = []
        self._good: list[PreparedRun] = []  # their bodies have returned
        self._results: dict[Run, RunResult] = {}
        self._first_savepoint: Savepoint | None = None
        self._statements = 0  # number sent so far, with those for savepoints
        self._refused = False  # ``watch`` has refused a statement of a body
        self._stage = Stage.BODY

    @property
    def good_runs(self) -> list[Run]:
        """The runs whose effects are in the transaction."""
        return [prepared.run for prepared in self._good]

    def add_all(self, runs: Sequence[Run]) -> None:
        """Call bodies until the budget is used up."""
        began = now()
        for run in runs:
            if self._begun and self._is_over(began):
                return
            self._begun.append(run)
            prepared = self._executor.prepare(run)
            if isinstance(prepared, RunResult):
                self._results[run] = prepared
                continue
            with self._at_work([run]):
                self._add(prepared)

    def _is_over(self, began: float) -> bool:
        spent = now() - began
        in_transit = self._statements * self._executor.round_trip
        return spent > LONGEST.total_seconds() or spent - in_transit > BUDGET.total_seconds()

    def _add(self, prepared: PreparedRun) -> None:
        run = prepared.run
        callbacks = self._connection.run_on_commit
        before = len(callbacks)
        tenant = tenant_of(self._connection)
        savepoint = self._savepoint()
        try:
            result = self._executor.run_part(prepared, savepoint)
        except BaseException as error:
            self._judge(error, prepared, tenant)
            return
        finally:
            if prepared.transaction is not None:
                self._statements += 1 + prepared.transaction.statements
        strayed = return_to(self._connection, tenant) or _reached_out(prepared)
        if self._refused or strayed:  # the body may have caught the error
            run.facts.durations.keep_apart()
            raise Apart
        if len(callbacks) > before:
            callbacks[before:] = _callbacks_of(run, callbacks[before:])
        self._good.append(prepared)
        self._results[run] = result

    def _savepoint(self) -> Savepoint:
        if self._first_savepoint is None:
            self._first_savepoint = self._store.savepoint(FIRST_SAVEPOINT)
            return self._first_savepoint
        return self._store.savepoint(f"aftercommit_{len(self._begun)}")

    def _judge(self, error: BaseException, prepared: PreparedRun, tenant: Tenant | None) -> None:
        """Raise ``Apart`` unless the error of a body leaves the other runs intact."""
        self._refused |= return_to(self._connection, tenant)
        run, task_transaction = prepared.run, prepared.transaction
        self._results[run] = self._executor.ended_by(error, prepared)
        reached_out = self._refused or _reached_out(prepared)
        if reached_out:
            run.facts.durations.keep_apart()
        undone = not self._connection.needs_rollback
        if reached_out or not undone or has_a(error, TransactionBroken):
            raise Apart from error
        interrupted = run.interrupted_at is not None  # an answer may be half read
        if interrupted or task_transaction is None or task_transaction.broken_off(error):
            raise Apart from error

    def watch(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Refuse a statement that may affect the other runs; an ``execute_wrapper``.

        If a cursor on the server is closed after the rollback to its savepoint, the error
        ends the transaction of all.
        """
        if server_side(context) or not may_be_shared(sql, context):
            self._refused = True
            raise NotShared("This statement is not allowed in a shared transaction.")
        return execute(sql, params, many, context)

    watch.refuses = True  # type: ignore[attr-defined]  # also on cursors of the driver

    def record(self) -> None:
        """Write all outcomes, as the last statement before COMMIT."""
        ends = [(one.run.claim, self._results[one.run].outcome) for one in self._good]
        if ends and self._first_savepoint is not None:
            self._first_savepoint.release()  # raises if a body has ended the transaction
            if len(self._store.finish_many(ends)) != len(ends):
                raise Apart from ClaimLost()
        self._stage = Stage.COMMITTING
        for one in self._good:
            if one.transaction is not None:
                one.transaction.committing()

    def committed(self) -> None:
        """Note that COMMIT has succeeded."""
        self._stage = Stage.COMMITTED
        for one in self._good:
            if one.transaction is not None:
                one.transaction.committed()

    def failed(self, error: BaseException) -> None:
        """Note whether the error left the transaction committed, rolled back or in doubt."""
        if self._stage is Stage.COMMITTED:
            log_error("An on_commit() callback of a shared transaction failed", error=error)
            return
        in_doubt = self._stage is Stage.COMMITTING and any(
            one.transaction is not None and one.transaction.broken_off(error)
            for one in self._good
        )
        if not in_doubt:
            self._stage = Stage.CLOSED
            return
        for one in self._good:
            self._results[one.run] = self._executor.ended_by(error, one)

    def settle(self) -> list[tuple[Run, RunResult]]:
        """Return the results of the runs that have begun; repeat those that were rolled back."""
        for result in self._results.values():
            if result.exception is not None:
                clear_frames(result.exception)
        if any(run.interrupted_at is not None for run in self._begun):
            drop_connections()
        if self._stage is not Stage.CLOSED:
            return [(run, self._results[run]) for run in self._begun]
        return [(run, self._again(run)) for run in self._begun]

    def _again(self, run: Run) -> RunResult:
        if run.given_up:
            return RunResult(outcome=Released())
        if run.interrupted_at is not None and run in self._results:
            result = self._results[run]
            # Its body has returned all the same, and what it recorded is rolled back.
            return RunResult(outcome=Released()) if result.recorded else result
        with self._at_work([run]):
            return self._executor.run(run)


def _reached_out(prepared: PreparedRun) -> bool:
    """Return whether a body has named a savepoint of the runs before it, or of the worker."""
    return prepared.transaction is not None and prepared.transaction.left_savepoint


def _callbacks_of(run: Run, callbacks: list[Any]) -> list[Any]:
    """Guard on_commit() callbacks: an error of one run must not stop those of the other runs."""
    failed = False

    def guarded(callback: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            nonlocal failed
            if failed:
                return  # as Django does: no callback after one that has raised
            try:
                in_context(run, callback)
            except BaseException as error:
                failed = True
                report_afterwards(run, error)

        return call

    def robustly(callback: Callable[[], object]) -> Callable[[], None]:
        @wraps(callback)  # Django logs its name
        def call() -> None:
            in_context(run, callback)

        return call

    return [
        (savepoints, robustly(callback) if robust else guarded(callback), robust)
        for savepoints, callback, robust in callbacks
    ]
