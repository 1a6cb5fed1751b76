"""Tells a play what happens on a connection of the body."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.reproduce.libraries import noted
from aftercommit.reproduce.play import Play, ProcessDied

PATCHED = ("set_autocommit", "commit", "run_and_clear_commit_hooks")


@contextmanager
def watched(connection: Any, play: Play) -> Iterator[None]:
    """Tell ``play`` of each outermost transaction of a connection in the block."""
    own = _Watched(connection, play)
    vars(connection).update({name: getattr(own, name) for name in PATCHED})
    connection.execute_wrappers.append(own.execute)
    try:
        yield
    finally:
        connection.execute_wrappers.remove(own.execute)
        for name in PATCHED:
            del vars(connection)[name]


def is_watched(connection: Any) -> bool:
    """Tell whether a play is told what happens on a connection."""
    return PATCHED[0] in vars(connection)


@contextmanager
def watched_callbacks(note: Callable[[], None]) -> Iterator[None]:
    """Note each callback that the block hands to ``on_commit()``, called or not."""
    with noted(note, BaseDatabaseWrapper, "on_commit"):
        yield


class _Watched:
    """Methods that stand for those of one connection."""

    def __init__(self, connection: Any, play: Play) -> None:
        self._connection = connection
        self._alias = connection.alias
        self._play = play
        self._originals = {name: getattr(connection, name) for name in PATCHED}

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        if not autocommit and not self._play.is_dead:
            self._play.begins(self._alias)
        self._originals["set_autocommit"](autocommit, *args, **kwargs)
        if autocommit:
            self._play.ended(self._alias)

    def commit(self) -> None:
        self._play.commits(self._alias)
        self._originals["commit"]()

    def run_and_clear_commit_hooks(self) -> None:
        callbacks = len(self._connection.run_on_commit)
        self._play.committed(self._alias, callbacks=callbacks)
        self._originals["run_and_clear_commit_hooks"]()

    def execute(
        self, call: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        if self._play.is_dead:
            raise ProcessDied
        return call(sql, params, many, context)
