"""Several short atomic runs in one transaction: each in its savepoint, one COMMIT for all."""

import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import Error, connections, transaction

from aftercommit.errors import ClaimLost, TransactionBroken
from aftercommit.store.savepoint import Savepoint
from aftercommit.values import Claim, Outcome, Ran, Released
from aftercommit.worker.effects import Stage
from aftercommit.worker.executor import Executor, Work, drop_connections, report_afterwards
from aftercommit.worker.runs import AtWork, Run, now
from aftercommit.worker.statements import may_be_shared

logger = logging.getLogger("aftercommit")

BUDGET = timedelta(milliseconds=10)  # after which no other run joins one

MakeSavepoint = Callable[..., Savepoint]
RecordMany = Callable[[Sequence[tuple[Claim, Outcome]]], frozenset[UUID]]


class NotShared(Error):
    """A statement that a shared transaction must not hear; the run is done again, alone."""


class Apart(Exception):
    """These runs cannot share a transaction."""


class Fusing:
    """Runs atomic jobs together that are known to be short.

    A body that raises takes back its own savepoint and nothing else. If the transaction
    fails as a whole, nothing has happened in it, and each run is done again, alone.
    """

    def __init__(
        self,
        executor: Executor,
        *,
        using: str,
        savepoint: MakeSavepoint,
        record_many: RecordMany,
    ) -> None:
        self._executor = executor
        self._using = using
        self._savepoint = savepoint
        self._record_many = record_many

    def may_join(self, run: Run) -> bool:
        """Tell whether a run may share its transaction."""
        try:
            return self._executor.is_short(run)
        except Exception:
            return False  # running it will tell why it cannot be run

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, Ran]]:
        """Run the first of ``runs``, as many as the budget allows, one at least, to their ends.

        ``at_work`` surrounds what is done for certain runs. Never raises.
        """
        batch = Batch(
            self._executor, using=self._using, savepoint=self._savepoint, at_work=at_work
        )
        try:
            with transaction.atomic(using=self._using, durable=True):
                transaction.on_commit(batch.committed, using=self._using)
                with connections[self._using].execute_wrapper(batch.watch):
                    batch.add_all(runs)
                with at_work(batch.good_runs):
                    batch.record(self._record_many)
        except BaseException as error:
            batch.failed(error)
        return batch.settle() or [self._first(runs, at_work)]

    def _first(self, runs: Sequence[Run], at_work: AtWork) -> tuple[Run, Ran]:
        """Run the first alone: there was no transaction to share, and it will tell why."""
        with at_work(runs[:1]):
            return runs[0], self._executor.run(runs[0])


class Batch:
    """The runs of one transaction, and how far it has come."""

    def __init__(
        self, executor: Executor, *, using: str, savepoint: MakeSavepoint, at_work: AtWork
    ) -> None:
        self._executor = executor
        self._connection: Any = connections[using]
        self._savepoint = savepoint
        self._at_work = at_work
        self._begun: list[Run] = []
        self._good: list[Work] = []  # their bodies have returned
        self._ends: dict[Run, Ran] = {}
        self._refused = False  # a body has said what it must not
        self._stage = Stage.BODY

    @property
    def good_runs(self) -> list[Run]:
        """The runs whose effects are in the transaction."""
        return [work.run for work in self._good]

    def add_all(self, runs: Sequence[Run]) -> None:
        """Run bodies until the budget is used up."""
        ends = now() + BUDGET.total_seconds()
        for run in runs:
            if self._begun and now() > ends:
                return
            self._begun.append(run)
            work = self._executor.prepare(run)
            if isinstance(work, Ran):
                self._ends[run] = work
                continue
            with self._at_work([run]):
                self._add(work)

    def _add(self, work: Work) -> None:
        callbacks = self._connection.run_on_commit
        before = len(callbacks)
        # One that may run once only must not be what undoes them all.
        early = work.known.pace.careful or work.run.claim.max_attempts == 1
        savepoint = self._savepoint(len(self._begun), early=early)
        try:
            ran = self._executor.run_part(work, savepoint, savepoint)
        except BaseException as error:
            self._judge(error, work, savepoint)
            return
        if self._refused:  # and the body has swallowed it
            work.known.pace.keep_apart()
            raise Apart
        if len(callbacks) > before:
            callbacks[before:] = _callbacks_of(work.run, callbacks[before:])
        self._good.append(work)
        self._ends[work.run] = ran

    def _judge(self, error: BaseException, work: Work, savepoint: Savepoint) -> None:
        """Decide whether what a body has raised is a matter of its own."""
        self._ends[work.run] = self._executor.ended_by(error, work)
        if self._refused:
            work.known.pace.keep_apart()
        if savepoint.failed:
            work.known.pace.careful = True
        if self._refused or savepoint.failed or isinstance(error, TransactionBroken):
            raise Apart from error
        interrupted = work.run.interrupted_at is not None  # an answer may be half read
        if interrupted or work.effects is None or work.effects.broken_off(error):
            raise Apart from error

    def watch(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Refuse what would touch the other runs, as an ``execute_wrapper``."""
        if not may_be_shared(sql, context):
            self._refused = True
            raise NotShared("not in a transaction that several jobs share")
        return execute(sql, params, many, context)

    def record(self, record_many: RecordMany) -> None:
        """Write all outcomes, as the last statement before COMMIT."""
        ends = [(work.run.claim, self._ends[work.run].outcome) for work in self._good]
        if ends and len(record_many(ends)) != len(ends):
            raise Apart from ClaimLost()
        self._stage = Stage.COMMITTING
        for work in self._good:
            if work.effects is not None:
                work.effects.committing()

    def committed(self) -> None:
        """Note that COMMIT was carried out."""
        self._stage = Stage.COMMITTED
        for work in self._good:
            if work.effects is not None:
                work.effects.committed()

    def failed(self, error: BaseException) -> None:
        """Find out what is left of the transaction."""
        if self._stage is Stage.COMMITTED:
            logger.error("An on_commit() callback raised what nothing catches", exc_info=error)
            return
        in_doubt = self._stage is Stage.COMMITTING and any(
            work.effects is not None and work.effects.broken_off(error) for work in self._good
        )
        if not in_doubt:
            self._stage = Stage.CLOSED
            return
        for work in self._good:
            self._ends[work.run] = self._executor.ended_by(error, work)

    def settle(self) -> list[tuple[Run, Ran]]:
        """Return how all that have begun have ended; do again what was undone."""
        if any(run.interrupted_at is not None for run in self._begun):
            drop_connections()
        if self._stage is not Stage.CLOSED:
            return [(run, self._ends[run]) for run in self._begun]
        return [(run, self._again(run)) for run in self._begun]

    def _again(self, run: Run) -> Ran:
        if run.interrupted_at is not None and run in self._ends:
            return self._ends[run]
        if run.given_up:
            return Ran(outcome=Released())
        with self._at_work([run]):
            return self._executor.run(run)


def _callbacks_of(run: Run, callbacks: list[Any]) -> list[Any]:
    """Keep what one run's on_commit() callbacks raise from those of the others."""
    failed = False

    def guarded(callback: Callable[[], object]) -> Callable[[], None]:
        def call() -> None:
            nonlocal failed
            if failed:
                return  # as Django does: none after one that has raised
            try:
                callback()
            except BaseException as error:
                failed = True
                report_afterwards(run, error)

        return call

    return [
        (savepoints, callback if robust else guarded(callback), robust)
        for savepoints, callback, robust in callbacks
    ]
