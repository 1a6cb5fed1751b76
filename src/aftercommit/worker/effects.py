"""The transaction that holds a job's effects together with its completion."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
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

from aftercommit.conflicts import is_conflict, is_lost
from aftercommit.errors import ClaimLost, RolledBack, TransactionBroken
from aftercommit.process import forks_end_here
from aftercommit.values import Claim, Succeeded
from aftercommit.worker.standing import Standing

Hold = Callable[[Claim], None]
ExecuteWrapper = Callable[..., Any]  # of Django
Record = Callable[[Claim, Succeeded], bool]
ABORTED = "25P02"  # PostgreSQL: an earlier statement failed and its error was swallowed
# Errors after which every database goes on with the transaction. After others (a
# deadlock, a full disk) the whole of it may be gone.
OF_ONE_STATEMENT = (DataError, IntegrityError, ProgrammingError)


class Stage(Enum):
    """How far the transaction has come."""

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


class Effects:
    """Body, effects and "done" in one commit: all of them or none.

    The body runs in a savepoint of its own. The fenced write of the outcome is the last
    statement before COMMIT; the row lock that it takes is what decides when the answer
    to COMMIT is lost.
    """

    def __init__(
        self,
        claim: Claim,
        *,
        using: str,
        hold: Hold,
        record: Record,
        dump: Callable[[Any], str],
    ) -> None:
        self._claim = claim
        self._using = using
        self._hold = hold
        self._record = record
        self._dump = dump
        self._standing = Standing()
        self._raw: Any = None  # the driver's connection, for as long as we work with it
        self.stage = Stage.CLOSED
        self.outcome: Succeeded | None = None
        self.failure: BaseException | None = None  # what went wrong after the body

    @contextmanager
    def transaction(self) -> Iterator[Finish]:
        """Run the block as the body.

        Raises ``ClaimLost`` if the job belongs to someone else by now, ``RolledBack`` and
        ``TransactionBroken`` when the body has spoiled the transaction.
        """
        self.stage = Stage.BODY
        try:
            with transaction.atomic(using=self._using, durable=True):
                transaction.on_commit(self.committed, using=self._using)  # before the user's
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
    def part(
        self, savepoint: AbstractContextManager[Any], *watching: ExecuteWrapper
    ) -> Iterator[Finish]:
        """Run the block as the body, in a savepoint of the transaction that is open.

        ``watching`` see its statements as they are sent.
        """
        finish = Finish()
        self.stage = Stage.BODY
        connection = self._connection
        self._raw = connection.connection
        self._hold(self._claim)
        with self._explained(), savepoint:
            with _watched(connection, self._standing, *watching):
                yield finish
            self.stage = Stage.LEAVING
            self.outcome = Succeeded(self._dump(finish.return_value))
            self._check()

    @property
    def in_doubt(self) -> Succeeded | None:
        """What is recorded if COMMIT was sent and carried out; nobody has heard of it."""
        return self.outcome if self.stage is Stage.COMMITTING else None

    def committing(self) -> None:
        """Note that COMMIT is next, and that the outcome is part of the transaction."""
        self.stage = Stage.COMMITTING

    def committed(self) -> None:
        """Note that it was carried out."""
        self.stage = Stage.COMMITTED

    def broken_off(self, error: BaseException) -> bool:
        """Tell whether the database is why ``error`` ended the run: nothing is left of it."""
        if self.stage is Stage.CLOSED:
            return False
        return any(
            isinstance(one, Error)
            and (is_conflict(one, vendor=self._connection.vendor) or is_lost(self._raw))
            for one in (error, self._standing.error)
        )

    @property
    def _connection(self) -> Any:
        return connections[self._using]

    def _check(self) -> None:
        connection = self._connection
        if connection.closed_in_transaction or not connection.in_atomic_block:
            raise TransactionBroken(using=self._using)
        if connection.needs_rollback or self._standing.error is not None:
            raise RolledBack from self._standing.error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Explain the end of the body's savepoint, where the body is the reason."""
        try:
            yield
        except BaseException as error:
            if self._ended_from_inside():
                raise TransactionBroken(using=self._using) from error
            aborted = getattr(error.__cause__, "sqlstate", None) == ABORTED
            if aborted and self.stage is Stage.LEAVING:
                raise RolledBack from error
            raise

    def _ended_from_inside(self) -> bool:
        """Tell whether the savepoint could not be left because the body ended what held it."""
        connection = self._connection
        if connection.closed_in_transaction:
            return True
        if not connection.needs_rollback or is_lost(self._raw):
            return False
        by_database = self._standing.error
        return by_database is None or isinstance(by_database, OF_ONE_STATEMENT)


@contextmanager
def _watched(connection: Any, *by: ExecuteWrapper) -> Iterator[None]:
    """Do as ``execute_wrapper()`` with several; the last is nearest to the database."""
    wrappers = connection.execute_wrappers
    before = len(wrappers)
    wrappers.extend(by)
    try:
        yield
    finally:
        del wrappers[before:]
