"""Cursors that a task takes from the driver's own connection, past Django.

Django's cursors are made of the same class, so a class of ours sees the statements of both.
SQLite has no such class to replace.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

FACTORIES = {"postgresql": "cursor_factory", "mysql": "cursorclass"}
USUAL = "_aftercommit_usual"  # attribute of our classes
METHODS = ("execute", "executemany", "callproc", "copy", "copy_expert", "stream")
STATEMENTS = ("query", "statement", "sql", "operation", "procname")  # as drivers call them

Note = Callable[[Any, Any], None]  # receives the statement and the cursor, before it is sent


def usual_factory(raw: Any, vendor: str) -> type | None:
    """Return the class of the cursors of a driver's connection without ours; None if unknown."""
    kind = getattr(raw, FACTORIES.get(vendor, ""), None)
    kind = getattr(kind, USUAL, kind)
    return kind if isinstance(kind, type) else None


def replace_factory(raw: Any, vendor: str, kind: type) -> None:
    """Let a driver's connection make cursors of another class, if it can be told to."""
    with suppress(AttributeError, TypeError):
        setattr(raw, FACTORIES[vendor], kind)


def noting(kind: Any, note: Note) -> Any:
    """Return a subclass that calls ``note`` with each statement."""
    methods = {name: _noting(kind, name, note) for name in METHODS if hasattr(kind, name)}
    named = {"__module__": kind.__module__, USUAL: kind}
    return type(kind.__name__, (kind,), {**named, **methods})


def _noting(kind: Any, name: str, note: Note) -> Callable[..., Any]:
    original = getattr(kind, name)
    prefix = "CALL " if name == "callproc" else None

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = (*args[:1], *(kwargs[one] for one in STATEMENTS if one in kwargs))
        for statement in given[:1]:  # none: the driver says what is missing
            note(statement if prefix is None else f"{prefix}{statement}", self)
        return original(self, *args, **kwargs)

    return method
