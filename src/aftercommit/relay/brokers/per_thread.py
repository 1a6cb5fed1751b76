"""A connection for each thread, for libraries whose connections cannot be shared."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary


class Closable(Protocol):
    """A connection that can be closed in any state."""

    def close(self) -> None: ...


Connection = TypeVar("Connection", bound=Closable)


class PerThread(Generic[Connection]):
    """A connection for each thread and owner (an app, a broker), opened when it is needed."""

    def __init__(self, connect: Callable[[Any], Connection]) -> None:
        self._connect = connect
        self._local = threading.local()
        self._open: set[Connection] = set()

    @contextmanager
    def of(self, owner: Any) -> Iterator[Connection]:
        """Yield this thread's connection; after an error in the block the next one is new."""
        try:
            yield self._find(owner)
        except BaseException:
            self._forget(owner)
            raise

    def close(self) -> None:
        """Close the connections of all threads; no thread may be using one."""
        for connection in list(self._open):
            connection.close()
        self._open.clear()
        self._local = threading.local()

    def _find(self, owner: Any) -> Connection:
        mine = self._of_this_thread
        if owner not in mine:
            mine[owner] = connection = self._connect(owner)
            self._open.add(connection)
        return mine[owner]

    def _forget(self, owner: Any) -> None:
        connection = self._of_this_thread.pop(owner, None)
        if connection is not None:
            self._open.discard(connection)
            connection.close()

    @property
    def _of_this_thread(self) -> "WeakKeyDictionary[Any, Connection]":
        if not hasattr(self._local, "mine"):
            self._local.mine = WeakKeyDictionary()
        mine: WeakKeyDictionary[Any, Connection] = self._local.mine
        return mine
