"""Weakened variants of the product, for tests that must notice them (I14).

Each takes one guard away, by ``patch(owner, name, value)``: ``monkeypatch.setattr`` in the
process of a test, plain ``setattr`` in a child process whose environment names the mutant.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from django.db import transaction

from aftercommit.models import Job, State
from aftercommit.values import Failed, RunError, RunResult
from aftercommit.worker.running.atomic import transaction as transaction_module
from aftercommit.worker.running.atomic.errors import UnresolvedError
from aftercommit.worker.running.atomic.transaction import TaskTransaction
from aftercommit.worker.running.executor import Executor, PreparedRun
from aftercommit.worker.upkeep.finisher import Finisher

WANTED = "AFTERCOMMIT_TEST_MUTANT"

Patch = Callable[[Any, str, Any], None]


def apply_wanted_mutant() -> None:
    """Weaken this process, if its environment says so."""
    if name := os.environ.get(WANTED):
        MUTANTS[name](setattr)


def record_after_commit(patch: Patch) -> None:
    """Write the completion when the effects are committed, in a transaction of its own."""
    init = TaskTransaction.__init__

    def weak(self: TaskTransaction, *args: Any, record: Any, using: str, **more: Any) -> None:
        def later(*given: Any) -> bool:
            transaction.on_commit(lambda: record(*given), using=using)
            return True

        init(self, *args, record=later, using=using, **more)

    patch(TaskTransaction, "__init__", weak)


def ignore_the_row_count(patch: Patch) -> None:
    """Commit the effects, whether the claim was still ours or not."""
    init = TaskTransaction.__init__

    def weak(self: TaskTransaction, *args: Any, record: Any, **more: Any) -> None:
        init(self, *args, record=lambda *given: record(*given) or True, **more)

    patch(TaskTransaction, "__init__", weak)


def no_rollback_guard(patch: Patch) -> None:
    """Trust that a body which returns wants its transaction committed."""
    patch(TaskTransaction, "_check", lambda self: None)


def no_savepoint(patch: Patch) -> None:
    """Do without the body's savepoint, which is gone when the body ends the transaction."""
    real = transaction.atomic

    def atomic(using: Any = None, **options: Any) -> Any:
        return real(using, **options) if options.get("durable") else nullcontext()

    patch(transaction_module, "transaction", _Transaction(atomic))


class _Transaction:
    """``django.db.transaction`` with another ``atomic()``, for one module."""

    def __init__(self, atomic: Any) -> None:
        self.atomic = atomic
        self.on_commit = transaction.on_commit


def forget_errors(patch: Patch) -> None:
    """Do not follow which errors of the database the body has swallowed."""

    def weak(self: UnresolvedError, execute: Any, *given: Any) -> Any:
        return execute(*given)

    patch(UnresolvedError, "__call__", weak)


def forgive_after_the_body(patch: Patch) -> None:
    """Let a task swallow what ``context.commit()`` raises, and call that a success."""
    real = TaskTransaction.open

    @contextmanager
    def weak(self: TaskTransaction) -> Iterator[Any]:
        try:
            with real(self) as finish:
                yield finish
        finally:
            self.failure = None

    patch(TaskTransaction, "open", weak)


def ask_the_new_connection(patch: Patch) -> None:
    """Look at the connection that Django has opened after a failed COMMIT, not at the old."""
    real = TaskTransaction.broken_off

    def weak(self: TaskTransaction, error: BaseException) -> bool:
        self._raw = self._connection.connection
        return real(self, error)

    patch(TaskTransaction, "broken_off", weak)


def never_settle(patch: Patch) -> None:
    """Take an outcome that did not apply for one that came too late."""
    patch(Finisher, "_found", lambda self, claim, ran: None)


def blind_failure(patch: Patch) -> None:
    """Mark a job as failed when its COMMIT was not answered, as most queues do."""

    def weak(self: Finisher, claim: Any, ran: RunResult) -> RunResult:
        Job.objects.filter(pk=claim.job_id).update(
            state=State.FAILED, lease_until=None, finished_at=claim.claimed_at
        )
        error = RunError(exception_class_path="builtins.Exception", traceback="")
        return replace(ran, outcome=Failed(error))

    patch(Finisher, "_found", weak)


def blind_retry(patch: Patch) -> None:
    """Make a job ready again when its COMMIT was not answered, whatever its row says."""

    def weak(self: Finisher, claim: Any, ran: RunResult) -> RunResult:
        Job.objects.filter(pk=claim.job_id).update(
            state=State.READY, lease_until=None, finished_at=None, worker_id=None
        )
        return ran

    patch(Finisher, "_found", weak)


def again_in_place(patch: Patch) -> None:
    """Run the body once more, at once, when its COMMIT was not answered."""
    real = Executor._run_sync

    def weak(self: Executor, prepared: PreparedRun) -> RunResult:
        ran = real(self, prepared)
        if ran.in_doubt is None:
            return ran
        return real(self, self._prepare(prepared.run, told=False))

    patch(Executor, "_run_sync", weak)


MUTANTS: dict[str, Callable[[Patch], None]] = {
    mutant.__name__: mutant
    for mutant in (
        again_in_place,
        ask_the_new_connection,
        blind_failure,
        blind_retry,
        forget_errors,
        forgive_after_the_body,
        ignore_the_row_count,
        never_settle,
        no_rollback_guard,
        no_savepoint,
        record_after_commit,
    )
}
