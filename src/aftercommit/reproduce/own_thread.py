"""A worker of the reproducer: one thread, with connections of its own."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from django.db import connections
from django.db.backends.signals import connection_created

from aftercommit.errors import ConfigurationError

BLOCKED = timedelta(milliseconds=250)  # a statement that takes longer waits for a lock
FREED = timedelta(seconds=2)  # for the same statement, when a lock may have been given back
STEP = timedelta(milliseconds=5)
LONGEST = timedelta(seconds=60)  # of one run


class OwnThread(threading.Thread):
    """Calls a function on connections that nobody else has."""

    def __init__(
        self, call: Callable[[], Any], *, replicas: Mapping[str, Any], number: int
    ) -> None:
        super().__init__(name=f"aftercommit-reproduce-{number}", daemon=True)
        self.error: BaseException | None = None
        self.value: Any = None
        self._call = call
        self._replicas = replicas
        self._statement_began: float | None = None

    def run(self) -> None:
        """Call the function; keep what it returns or raises."""
        for alias, connection in self._replicas.items():
            connections[alias] = connection
        try:
            self.value = self._call()
        except BaseException as error:
            self.error = error
        finally:
            for alias in self._replicas:
                del connections[alias]  # it belongs to whoever has opened it
            connections.close_all()

    def wait(self, blocked: timedelta = BLOCKED) -> bool:
        """Wait for the end, or until a statement waits for a lock; tell whether it ended.

        A statement does that if it takes longer than ``blocked`` from now on.
        """
        start = time.monotonic()
        while True:
            self.join(STEP.total_seconds())
            if not self.is_alive():
                return True
            began, now = self._statement_began, time.monotonic()
            if began is not None and now - max(began, start) > blocked.total_seconds():
                return False
            if now - start > LONGEST.total_seconds():
                return False

    def wait_for_the_end(self) -> None:
        """Wait until it ends. Raises ``ConfigurationError`` if it does not in a minute."""
        self.join(LONGEST.total_seconds())
        if self.is_alive():
            raise ConfigurationError(
                f"A task did not end in {LONGEST.total_seconds():.0f} seconds after the code "
                "under test.\n"
                "Its thread still runs, and may lock tables of the copy.\n"
                "Fix: let the task do less in the test, or replace what it waits for."
            )

    def watch(self, connection: Any) -> None:
        """Note when statements of a connection begin and end."""
        connection.execute_wrappers.append(self._execute)

    def _execute(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        self._statement_began = time.monotonic()
        try:
            return execute(sql, params, many, context)
        finally:
            self._statement_began = None


def watch_connections(connection: Any, **_: Any) -> None:
    """Watch a connection that one of these threads has opened."""
    thread = threading.current_thread()
    if isinstance(thread, OwnThread):
        thread.watch(connection)


def start_watching() -> None:
    """Watch the connections of the threads from now on."""
    connection_created.connect(watch_connections, dispatch_uid="aftercommit.reproduce")


def stop_watching() -> None:
    """Watch none."""
    connection_created.disconnect(dispatch_uid="aftercommit.reproduce")
