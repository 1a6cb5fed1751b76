"""A crash at a chosen point of a run, as ``kill -9`` of its process would be one."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

LONGEST_STATEMENT = 100  # characters
COMMIT = "COMMIT"


class SimulatedCrash(BaseException):
    """The process is dead: nothing that it does from here on reaches a database."""


class Crasher:
    """Counts the points before and after each statement of a run, and crashes at one of them.

    A COMMIT counts as a statement. From the crash on each further statement crashes as well,
    also those by which a task or the worker would react to it, and whoever holds the connection
    then rolls back what is not committed.
    """

    def __init__(self, at: int | None) -> None:
        self.points: list[str] = []  # what was about to be done, and was done, in words
        self._at = at  # the number of the point, from 0; None: never
        self._armed = False
        self._dead = False

    def arm(self) -> None:
        """Begin to count: the job is claimed."""
        self._armed = True

    @contextmanager
    def watching(self, aliases: Collection[str]) -> Iterator[None]:
        """See the statements of these connections first, before anybody else does."""
        watched = [connections[alias] for alias in aliases]
        for one in watched:
            one.execute_wrappers.insert(0, self._execute)
        try:
            yield
        finally:
            for one in watched:
                one.execute_wrappers.remove(self._execute)

    def step(self, word: str, send: Callable[[], None]) -> None:
        """Begin or end a transaction; see ``as_in_production``."""
        if word == COMMIT:
            self._around(word, send)
        elif self._dead:
            raise SimulatedCrash
        else:
            send()

    def _execute(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        text = " ".join(str(sql).split())
        return self._around(text, lambda: execute(sql, params, many, context))

    def _around(self, what: str, do: Callable[[], Any]) -> Any:
        if not self._armed:
            return do()
        self._pass(f"before {_short(what)}")
        result = do()
        self._pass(f"after {_short(what)}")
        return result

    def _pass(self, point: str) -> None:
        if not self._dead:
            self.points.append(point)
            self._dead = self._at == len(self.points) - 1
        if self._dead:
            raise SimulatedCrash(point)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_STATEMENT else f"{text[:LONGEST_STATEMENT]} …"
