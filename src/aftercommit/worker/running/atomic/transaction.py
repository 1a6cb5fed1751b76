"""The transaction that holds a job's effects together with its completion."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any

from django.db import (
    DataError,
    Error,
    IntegrityError,
    ProgrammingError,
    connections,
    transaction,
)

from aftercommit.errors import ClaimLost, RolledBack, TransactionBroken
from aftercommit.process import forks_end_here
from aftercommit.transient_errors import is_conflict, is_lost
from aftercommit.values import Claim, Ended, Succeeded
from aftercommit.worker.running.atomic.errors import UnresolvedError
from aftercommit.worker.running.blocks import left_blocks
from aftercommit.worker.running.connections import replace_if_ended
from aftercommit.worker.running.failure import parts_of
from aftercommit.worker.running.statements import watching
from aftercommit.worker.runs import now

Record = Callable[[Claim, Succeeded], Ended | None]
ABORTED = "25P02"  # PostgreSQL: an earlier statement failed and the task caught the error
# Errors after which the transaction still exists on every database. Other errors (a
# deadlock, a full disk) may roll back the whole transaction.
OF_ONE_STATEMENT = (DataError, IntegrityError, ProgrammingError)
# A connection may have been idle for that long; then a round trip to ask for it does not count.
IDLE = timedelta(seconds=5)


class Stage(Enum):
    """The stages of a task's transaction, in their order."""

    CLOSED = "closed"
    BODY = "body"
    LEAVING = "leaving"
    RECORDING = "recording"
    COMMITTING = "committing"
    COMMITTED = "committed"


class Finish:
    """What a transaction writes as the outcome; a task may set its ``return_value``."""

    def __init__(self) -> None:
        self.return_value: Any = None


class TaskTransaction:
    """The effects of a body and the completion of its job in one commit: both or neither.

    The body runs in a savepoint of its own. The fenced write of the outcome is the last
    statement before COMMIT. If the answer to COMMIT is lost, a later statement on the row
    waits for the lock of this write, and then sees whether it was committed.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        using: str,
        record: Record,
        succeed: Callable[[Any], Succeeded],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        self._claim = claim
        self._using = using
        self._record = record
        self._succeed = succeed
        self._interrupted = interrupted  # whether the worker has interrupted the body
        self._unresolved = UnresolvedError()
        self._made_at = now()
        self._raw: Any = None  # the driver's connection when the body began
        self.stage = Stage.CLOSED
        self.round_trip = 0.0  # seconds that it took to set the body's savepoint
        self.outcome: Succeeded | None = None
        self.failure: BaseException | None = None  # what went wrong after the body

    @contextmanager
    def open(self) -> Iterator[Finish]:
        """Run the block as the body.

        Raises ``ClaimLost`` if the claim has ended, ``RolledBack`` if the body has marked the
        transaction for rollback, ``TransactionBroken`` if the body has ended it.
        """
        self.stage = Stage.BODY
        replace_if_ended(self._connection, ask=now() - self._made_at > IDLE.total_seconds())
        try:
            with transaction.atomic(using=self._using, durable=True):
                # Registered first, so it is called before the callbacks of the body.
                transaction.on_commit(self.committed, using=self._using)
                part = self.part(transaction.atomic(using=self._using))
                with part as finish, forks_end_here():
                    yield finish
                self.stage = Stage.RECORDING
                if self.outcome is None or not self._record(self._claim, self.outcome):
                    raise ClaimLost(job_id=self._claim.job_id)
                self.committing()
        except BaseException as error:
            if self.stage not in {Stage.BODY, Stage.COMMITTED}:
                self.failure = error
            raise

    @contextmanager
    def part(self, savepoint: AbstractContextManager[Any]) -> Iterator[Finish]:
        """Run the block as the body, in a savepoint of the transaction that is open."""
        finish = Finish()
        self.stage = Stage.BODY
        connection = self._connection
        self._raw = connection.connection
        began = now()
        watched = watching(connection, self._unresolved)
        with self._explained(), watched, savepoint:
            self.round_trip = now() - began
            with self._unresolved.body(), left_blocks(connection) as left:
                yield finish
            if left:
                raise RolledBack
            self.stage = Stage.LEAVING
            self.outcome = self._succeed(finish.return_value)
            self._check()

    @property
    def statements(self) -> int:
        """How many statements the body has sent."""
        return self._unresolved.statements

    @property
    def left_savepoint(self) -> bool:
        """Whether the body has released, or rolled back to, a savepoint that it had not set."""
        return self._unresolved.left_savepoint

    @property
    def in_doubt(self) -> Succeeded | None:
        """The recorded outcome, if COMMIT was sent and its answer was lost."""
        return self.outcome if self.stage is Stage.COMMITTING else None

    def committing(self) -> None:
        """Note that COMMIT is next, and that the outcome is part of the transaction."""
        self.stage = Stage.COMMITTING

    def committed(self) -> None:
        """Note that COMMIT has succeeded."""
        self.stage = Stage.COMMITTED

    def broken_off(self, error: BaseException) -> bool:
        """Return whether a conflict or a lost connection ended the run: no effect is left.

        So is an error of a statement of the worker's own: BEGIN, the savepoint before the body,
        the write of the outcome.
        """
        if self.stage is Stage.CLOSED:
            return False
        if self._is_of_worker(error):
            return True
        return any(
            one is not None
            and issubclass(type(one), Error)
            and (self._is_conflict(one) or is_lost(self._raw))
            for one in (*parts_of(error), self._unresolved.error)
        )

    @property
    def _connection(self) -> Any:
        return connections[self._using]

    def _is_of_worker(self, error: BaseException) -> bool:
        # A DataError while the outcome is written is because of the task's return value.
        kind, recording = type(error), self.stage is Stage.RECORDING
        if not issubclass(kind, Error) or (recording and issubclass(kind, DataError)):
            return False
        return recording or not self._unresolved.has_begun

    def _is_conflict(self, error: BaseException) -> bool:
        return is_conflict(error, vendor=self._connection.vendor)

    def _check(self) -> None:
        connection = self._connection
        if connection.closed_in_transaction or not connection.in_atomic_block:
            raise TransactionBroken(using=self._using)
        if connection.needs_rollback or self._unresolved.error is not None:
            raise RolledBack from self._unresolved.error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise an error that explains it if the body is why its savepoint cannot be released."""
        try:
            yield
        except BaseException as error:
            if self._ended_from_inside(error):
                raise TransactionBroken(using=self._using) from error
            aborted = getattr(error.__cause__, "sqlstate", None) == ABORTED
            if aborted and self.stage is Stage.LEAVING:
                raise RolledBack from error
            raise

    def _ended_from_inside(self, error: BaseException) -> bool:
        """Return whether the body has ended the transaction that contains its savepoint.

        Not if it was the server or the network: some drivers say of a connection that is lost
        that it is open, and then only the code of the error shows it.
        """
        if self._interrupted():  # perhaps in the middle of a statement: it was not the body
            return False
        connection = self._connection
        if connection.closed_in_transaction:
            return True
        if not connection.needs_rollback or is_lost(self._raw):
            return False
        around = self._unresolved.around
        if not self._unresolved.has_begun or self._is_conflict(error):
            return False
        if around is not None and self._is_conflict(around):
            return False
        by_database = self._unresolved.error
        return by_database is None or isinstance(by_database, OF_ONE_STATEMENT)
