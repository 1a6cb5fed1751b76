"""Callers beside the test: threads with a connection of their own, led step by step."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Event
from typing import Any, TypeVar

from django.db import connection, connections, transaction

from tests.waiting import SOON, wait_until

Answer = TypeVar("Answer")

WAITS_ON_POSTGRESQL = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
# Not information_schema.innodb_trx, which shows the state of up to 0.1 s ago.
A_MOMENT = 0.005  # seconds, before the server is asked
INNODB_STATUS = "SHOW ENGINE INNODB STATUS"


class Caller:
    """Someone else: does one thing after another on a connection of its own."""

    def __init__(self, watcher: Any) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._watcher = watcher
        self.held: list[Held] = []
        self.session = self.do(session_number)

    def do(self, call: Callable[..., Answer], *args: Any, **kwargs: Any) -> Answer:
        """Let it do something; return what came of it."""
        return self.start(call, *args, **kwargs).result(SOON.total_seconds())

    def start(self, call: Callable[..., Answer], *args: Any, **kwargs: Any) -> Future[Answer]:
        """Let it begin something; see ``must_wait`` and ``answer``."""
        return self._thread.submit(call, *args, **kwargs)

    def must_wait(self, begun: Future[Any]) -> bool:
        """Tell whether what it began waits for a lock; False once it has ended.

        SQLite cannot say who waits: there, what has not ended counts as waiting. Use it
        only where the write lock is taken.
        """
        if connection.vendor == "sqlite":
            return not begun.done()

        def ends_or_waits() -> bool:
            return bool(wait([begun], A_MOMENT).done) or self._waits()

        wait_until(ends_or_waits, why="it ends or waits for a lock")
        return not begun.done()

    def _waits(self) -> bool:
        with self._watcher.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute(WAITS_ON_POSTGRESQL, [self.session])
                return bool(cursor.fetchone()[0])
            cursor.execute(INNODB_STATUS)
            transactions = cursor.fetchone()[2].split("---TRANSACTION ")
        return any(
            f"thread id {self.session}," in one and "LOCK WAIT" in one for one in transactions
        )

    def close(self) -> None:
        """End its transaction, its connections and its thread."""
        for held in self.held:
            held.let_go()
        self._thread.submit(connections.close_all)
        self._thread.shutdown()


class Held:
    """A transaction that a caller holds open until it is told how to end."""

    def __init__(self, caller: Caller, call: Callable[[], Any]) -> None:
        self._ends = Event()
        self._commits = True
        self._began = Event()
        caller.held.append(self)
        self._whole = caller.start(self._hold, call)
        self._result: Any = None
        wait_until(lambda: self._began.is_set() or self._whole.done(), why="it has begun")
        if not self._began.is_set():
            self._whole.result()

    def _hold(self, call: Callable[[], Any]) -> None:
        with transaction.atomic():
            self._result = call()
            self._began.set()
            assert self._ends.wait(SOON.total_seconds()), "nobody ended this transaction"
            transaction.set_rollback(not self._commits)

    @property
    def result(self) -> Any:
        """What the call inside returned."""
        return self._result

    def commit(self) -> None:
        """Commit, and wait until that is done."""
        self._ends.set()
        self._whole.result(SOON.total_seconds())

    def roll_back(self) -> None:
        """Roll back, and wait until that is done."""
        self._commits = False
        self.commit()

    def let_go(self) -> None:
        """Roll back, if nobody has said how to end."""
        if not self._ends.is_set():
            self._commits = False
            self._ends.set()


def answer(begun: Future[Answer]) -> Answer:
    """Return what came of something begun."""
    return begun.result(SOON.total_seconds())


def session_number() -> int:
    """Return the number under which the server knows the calling thread's session."""
    connection.ensure_connection()
    raw: Any = connection.connection
    if connection.vendor == "postgresql":
        return raw.info.backend_pid
    return raw.thread_id() if connection.vendor == "mysql" else 0


@contextmanager
def at_statement(number: int, act: Callable[[], None]) -> Iterator[None]:
    """Act just before the calling thread's statement of this number (from 0), once."""
    seen = iter(range(10**6))

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if next(seen) == number:
            act()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield


@contextmanager
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Collect the calling thread's statements with their parameters."""
    found: list[tuple[str, Any]] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        found.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(watch):
        yield found
