"""Inside the transaction of a test, connections work as they do in production.

``TestCase`` and the fixture ``db`` of pytest-django keep a transaction open around a test, so
no COMMIT ever happens: callbacks of ``on_commit()`` are not called, every ``atomic()`` is a
savepoint, and on PostgreSQL an error of one statement spoils all that follow. Here the
connection is in autocommit mode as Django sees it, and BEGIN, COMMIT and ROLLBACK become a
savepoint, its release and a rollback to it. All of Django's own logic runs unchanged.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import Error, connections
from django.test import testcases

from aftercommit.enqueue.transactions import IN_TEST, open_aliases
from aftercommit.errors import InsideTransaction

TRANSACTION, STATEMENT = "aftercommit_transaction", "aftercommit_statement"
# What Django knows of the transaction that is open, with its values where there is none.
OUTSIDE: Any = {
    "in_atomic_block": lambda: False,
    "atomic_blocks": list,
    "savepoint_ids": list,
    "run_on_commit": list,
    "needs_rollback": lambda: False,
    "commit_on_exit": lambda: True,
    "autocommit": lambda: True,
    "run_commit_hooks_on_set_autocommit_on": lambda: False,
}
# Called with the words BEGIN, COMMIT or ROLLBACK and what sends it.
Step = Callable[[str, Callable[[], None]], None]


def usable_aliases() -> list[str]:
    """Return the database aliases that the present test may use, in their order."""
    kind: Any = getattr(testcases, "_DatabaseFailure", ())
    return [one.alias for one in connections.all() if not isinstance(one.connect, kind)]


@contextmanager
def as_in_production(*, step: Step = lambda _word, send: send()) -> Iterator[Sequence[str]]:
    """Let the connections of this thread work as in autocommit mode; yield their aliases.

    Those that are in the transaction of a test; the others do so anyway. Raises
    ``InsideTransaction`` if a transaction is open that the code under test has begun: in
    production no worker sees its jobs yet.
    """
    aliases = usable_aliases()
    if using := [alias for alias in open_aliases() if alias in aliases]:
        raise InsideTransaction(
            what="run_jobs()",
            using=using,
            in_test=False,
            why="No worker sees its jobs before its COMMIT, so nothing was run.",
            fix="Fix: call run_jobs() after the block.",
        )
    with ExitStack() as stack:
        for alias in aliases:
            if connections[alias].in_atomic_block:
                stack.enter_context(_InTest(connections[alias], step).entered())
        yield aliases


class _InTest:
    """One connection whose transactions are savepoints."""

    def __init__(self, connection: Any, step: Step) -> None:
        self._connection = connection
        self._step = step
        self._is_open = False

    @contextmanager
    def entered(self) -> Iterator[None]:
        connection = self._connection
        before = {name: getattr(connection, name) for name in OUTSIDE}
        own = {
            "_commit": self._commit,
            "_rollback": self._rollback,
            "_set_autocommit": self._set_autocommit,
            "_start_transaction_under_autocommit": self._begin,
            "close": _stay_open,
            IN_TEST: True,
        }
        vars(connection).update(own, **{name: value() for name, value in OUTSIDE.items()})
        connection.execute_wrappers.append(self._execute)
        try:
            yield
        finally:
            connection.execute_wrappers.remove(self._execute)
            for name in own:
                vars(connection).pop(name, None)
            try:
                self.roll_back()
            finally:
                vars(connection).update(before)

    def roll_back(self) -> None:
        """Undo what is not committed, as the end of a session does."""
        if self._is_open:
            self._is_open = False
            self._send(f"ROLLBACK TO SAVEPOINT {TRANSACTION}")
            self._send(f"RELEASE SAVEPOINT {TRANSACTION}")

    def _begin(self) -> None:
        if not self._is_open:
            self._step("BEGIN", lambda: self._send(f"SAVEPOINT {TRANSACTION}"))
            self._is_open = True

    def _commit(self) -> None:
        if self._is_open:
            self._step("COMMIT", self._release)

    def _release(self) -> None:
        if self._connection.vendor != "mysql":  # which checks with each statement
            self._connection.check_constraints()
        self._send(f"RELEASE SAVEPOINT {TRANSACTION}")
        self._is_open = False

    def _rollback(self) -> None:
        if self._is_open:
            self._step("ROLLBACK", self.roll_back)

    def _set_autocommit(self, autocommit: bool) -> None:
        if not autocommit:
            self._begin()
        elif self._is_open:
            self._commit()

    def _execute(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement in the transaction that production would have, or in none."""
        connection = self._connection
        if sql.lstrip()[:15].upper() == "SET TRANSACTION":
            return None  # of a transaction that begins next, and the test's goes on
        if not connection.autocommit:
            self._begin()  # after a commit() by hand
            return execute(sql, params, many, context)
        if connection.vendor != "postgresql":  # the others undo a statement by themselves
            return execute(sql, params, many, context)
        self._send(f"SAVEPOINT {STATEMENT}")
        try:
            result = execute(sql, params, many, context)
        except Error:
            self._send(f"ROLLBACK TO SAVEPOINT {STATEMENT}")
            self._send(f"RELEASE SAVEPOINT {STATEMENT}")
            raise
        self._send(f"RELEASE SAVEPOINT {STATEMENT}")
        return result

    def _send(self, sql: str) -> None:
        """Send a statement that nobody else sees or counts."""
        connection = self._connection
        with connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(sql)
            finally:
                cursor.close()


def _stay_open() -> None:
    """Keep the connection: the transaction of the test would end with it."""
