"""gather(): what is enqueued in a block is inserted together, at the end of the block."""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import connections

from aftercommit.enqueue.statements import savepoint_of
from aftercommit.enqueue.transactions import UNKNOWN, in_event_loop, transaction_on
from aftercommit.errors import GatherMisplaced
from aftercommit.store import store_for
from aftercommit.values import NewJob, NewJobs, Together

_innermost: ContextVar["Gather | None"] = ContextVar("aftercommit_gather", default=None)


def gather() -> "Gather":
    """Return a block whose jobs are inserted together, at its end.

    In the transaction that was open when the block began, or in a short one of their own. The
    ids are known at once. If the block ends with an exception, none of its jobs is inserted;
    after a rollback to a savepoint, none of those that were enqueued since. Write
    ``with gather():``, in a coroutine ``async with gather():``.

    Jobs with a unique key, those of a transaction that begins inside the block and those of
    other threads are inserted at once.
    """
    return Gather()


def open_block() -> "Gather | None":
    """Return the block that the caller is in, which may or may not take a job; see ``take``."""
    return _innermost.get()


def insert_gathered(using: str) -> None:
    """Insert what the caller's blocks hold for a database alias, for who reads or changes it."""
    if (block := _innermost.get()) is not None:
        block.insert(using)


def held_job(job_id: UUID, *, using: str) -> NewJob | None:
    """Return a job that is in no table yet, because the caller's blocks hold it."""
    block = _innermost.get()
    return None if block is None else block.job(job_id, using=using)


class Entry(NamedTuple):
    """Jobs of one call that wait for the end of their block."""

    block: "Gather"
    jobs: Together
    inserted: Callable[[], None]  # is called when they are

    def job(self, job_id: UUID) -> NewJob | None:
        """Return a job if it is one of these."""
        if isinstance(self.jobs, NewJobs) and str(job_id) not in self.jobs.ids:
            return None
        jobs = self.jobs.each() if isinstance(self.jobs, NewJobs) else self.jobs
        return next((one for one in jobs if one.id == job_id), None)


class Savepoint(NamedTuple):
    """A savepoint of the database, and the jobs that were held when it was set."""

    name: str
    entries: list[Entry]  # which may have grown since
    number: int  # of the first ones


class Held:
    """The jobs that blocks of one thread hold for one transaction of a database alias.

    A list of entries only grows, or is replaced, so that a savepoint can remember its length.
    It follows the savepoints as an ``execute_wrapper``, from its first job on. A savepoint that
    it does not know is older than all of its jobs.
    """

    def __init__(self, using: str, transaction: Any) -> None:
        self.using = using
        self.entries: list[Entry] = []
        self._connection: Any = connections[using]
        self._transaction = transaction
        self._savepoints: list[Savepoint] = []
        self._connection.execute_wrappers.append(self)

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement, and forget jobs if it is a rollback to a savepoint before them."""
        result = execute(sql, params, many, context)
        if found := savepoint_of(sql, context):
            self._follow(*found)
        return result

    def add(self, block: "Gather", jobs: Together, inserted: Callable[[], None]) -> None:
        """Hold jobs until ``insert``."""
        self.entries.append(Entry(block, jobs, inserted))

    def forget_failed(self) -> None:
        """Forget the jobs of blocks that have ended with an exception."""
        self.entries = [one for one in self.entries if not one.block.has_failed]

    def insert(self) -> None:
        """Insert all jobs, unless their transaction is marked for rollback.

        Raises ``GatherMisplaced`` if it is not open any more.
        """
        entries, self.entries = self.entries, []
        if not entries or self._connection.needs_rollback:
            return
        if transaction_on(self._connection) is not self._transaction:
            raise GatherMisplaced(
                problem=f"the transaction on {self.using!r} has ended before the block, which "
                "began inside it",
                fix="with transaction.atomic(), aftercommit.gather(): ends both in their order",
            )
        store_for(self.using).insert_together([one.jobs for one in entries])
        for one in entries:
            one.inserted()

    def close(self) -> None:
        """Follow no more statements."""
        if self in self._connection.execute_wrappers:
            self._connection.execute_wrappers.remove(self)

    def _follow(self, verb: str, name: str) -> None:
        if verb == "savepoint":
            self._savepoints.append(Savepoint(name, self.entries, len(self.entries)))
            return
        names = [one.name for one in self._savepoints]
        known = name in names
        place = len(names) - 1 - names[::-1].index(name) if known else 0
        if verb == "release":
            del self._savepoints[place if known else len(names) :]
            return
        before = self._savepoints[place] if known else Savepoint(name, [], 0)
        self.entries = before.entries[: before.number]  # also what was inserted since
        self.forget_failed()
        del self._savepoints[place + known :]


class Gather:
    """A block of ``gather()``. It belongs to the thread that has begun it.

    It takes the jobs of the transaction that was open on their database when it began. A block
    inside another one leaves its jobs to that one, if both began in the same transaction.
    """

    def __init__(self) -> None:
        self._parent: Gather | None = None
        self._thread: int | None = None
        self._transactions: dict[str, Any] = {}  # that were open at its beginning, by alias
        self._held: dict[str, Held] = {}
        self._own: list[Held] = []  # which end with this block
        self._is_over = self._failed = False

    def __enter__(self) -> Self:
        if in_event_loop():
            raise GatherMisplaced(
                problem="with gather(): stands in a coroutine, where Django does not write",
                fix="write async with aftercommit.gather():",
            )
        self._begin()
        _innermost.set(self)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self._leave()
        self._end(error)

    async def __aenter__(self) -> Self:
        await sync_to_async(self._begin)()
        _innermost.set(self)
        return self

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        self._leave()
        await sync_to_async(self._end)(error)

    def flush(self) -> None:
        """Insert now what was enqueued so far, in this block and in those around it."""
        for held in self._held.values():
            held.insert()

    async def aflush(self) -> None:
        """See ``flush``."""
        await sync_to_async(self.flush)()

    def take(
        self, using: str, jobs: Together, *, inserted: Callable[[], None] | None = None
    ) -> bool:
        """Hold jobs for a database alias until the end; False: the caller has to insert them.

        ``inserted`` is called when they are inserted, in the same transaction.
        """
        held = self._held_for(using)
        if held is None:
            return False
        held.add(self, jobs, inserted or _nothing)
        return True

    def job(self, job_id: UUID, *, using: str) -> NewJob | None:
        """Return a job that is held in this block or around it."""
        held = self._held.get(using)
        found = (one.job(job_id) for one in (held.entries if held is not None else ()))
        here = next((one for one in found if one is not None), None)
        if here is not None or self._parent is None:
            return here
        return self._parent.job(job_id, using=using)

    def insert(self, using: str) -> None:
        """Insert now what is held for an alias."""
        if (held := self._held_for(using)) is not None:
            held.insert()

    @property
    def has_failed(self) -> bool:
        """Whether this block, or one around it, has ended with an exception."""
        one: Gather | None = self
        while one is not None and not one._failed:
            one = one._parent
        return one is not None

    def _begin(self) -> None:
        if self._thread is not None:
            raise GatherMisplaced(
                problem="a block was entered twice",
                fix="call gather() for each block",
            )
        self._thread = threading.get_ident()
        self._parent = _innermost.get()
        opened = connections.all(initialized_only=True)
        self._transactions = {one.alias: transaction_on(one) for one in opened}

    def _leave(self) -> None:
        # Not by a token: a generator may be closed in another context than it has begun in.
        if _innermost.get() is self:
            _innermost.set(self._parent)

    def _held_for(self, using: str) -> Held | None:
        if self._is_over:  # for what it has begun and what goes on: a task of asyncio
            return None if self._parent is None else self._parent._held_for(using)
        transaction = transaction_on(connections[using])
        if self._thread != threading.get_ident() or transaction is UNKNOWN:
            return None
        if transaction is not self._transactions.get(using):
            return None
        if using not in self._held:
            held = None if self._parent is None else self._parent._held_for(using)
            if held is None:
                held = Held(using, transaction)
                self._own.append(held)
            self._held[using] = held
        return self._held[using]

    def _end(self, error: BaseException | None) -> None:
        self._is_over, self._failed = True, error is not None
        try:
            if error is None and self._thread != threading.get_ident():
                raise GatherMisplaced(
                    problem="a block has ended in another thread than it has begun in",
                    fix="begin and end it in the same function",
                )
            for held in self._held.values() if self._failed else ():
                held.forget_failed()
            for held in self._own if not self._failed else ():
                held.insert()
        finally:
            for held in self._own:
                held.close()


def _nothing() -> None:
    """Do nothing when jobs are inserted."""
