"""What the SQL statements of tasks do, as far as their text shows."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aftercommit.enqueue.statements import cached

Wrapper = Callable[[Any, str, Any, bool, dict[str, Any]], Any]

# What may stand before the verb: comments, but for those whose text MySQL executes. Possessive:
# each of many comments could otherwise end at any later "*/", which takes exponential time.
_PREFIX = r"(?:[\s(]|--[^\n]*(?:\n|\Z)|\#[^\n]*(?:\n|\Z)|/\*(?!M?!).*?\*/|/\*M?!\d*)*+"
# DO and CALL: what their code does is not known.
_CHANGES_SESSION = re.compile(
    _PREFIX + r"(set|pragma|lock|use|attach|detach|reset|discard|load|listen|unlisten|prepare|"
    r"declare|do|call|handler|flush|"
    r"create\s+(or\s+replace\s+)?((local|global)\s+)?temp(orary)?)\b",
    re.IGNORECASE | re.DOTALL,
)
_HINTS = ("set_config", "lock", "setseed", "dblink_connect", "load_extension", "@", "temp")
_CHANGES_INSIDE = re.compile(
    r"\b(set_config|get_lock|pg_(try_)?advisory_lock(_shared)?|setseed|dblink_connect\w*|"
    r"load_extension)\s*\(|@[\w$.`]+\s*:=|\binto\s+(@|temp(orary)?\b)",
    re.IGNORECASE,
)
_TRANSACTION = re.compile(
    _PREFIX + r"(begin|start|xa|commit|rollback(?!\s+to))\b", re.IGNORECASE | re.DOTALL
)
_EFFECTS = re.compile(
    r"\s*(select|insert|update|delete|with|values|merge|replace|savepoint|release|rollback\s+to)\b",
    re.IGNORECASE,
)


@contextmanager
def watching(connection: Any, wrapper: Wrapper) -> Iterator[None]:
    """Let statements pass an ``execute_wrapper`` in the block.

    Django's context manager takes away the last one, whichever that is: a task may have left
    one of its own there.
    """
    wrappers = connection.execute_wrappers
    wrappers.append(wrapper)
    try:
        yield
    finally:
        if wrapper in wrappers:
            wrappers.remove(wrapper)


def server_side(context: dict[str, Any]) -> bool:
    """Return whether a statement opens a cursor on the server (PostgreSQL)."""
    return getattr(context["cursor"].cursor, "name", None) is not None


@cached
def changes_session(sql: str) -> bool:
    """Return whether a statement may change the state of the session."""
    return _changes_session(sql)


@cached
def may_leave_transaction(sql: str) -> bool:
    """Return whether a statement may leave a transaction open without Django's knowledge.

    The statements of ``atomic()`` itself do not pass Django's cursors, except for savepoints.
    """
    return any(_TRANSACTION.match(part) is not None for part in sql.split(";"))


@cached
def may_be_shared(sql: str) -> bool:
    """Return whether a statement may be sent in a transaction that several jobs share.

    Only a few kinds may: any other might end the transaction, or have an effect that stays
    when the body's savepoint is rolled back. So might a second statement in the same text.
    """
    if ";" in sql.rstrip().removesuffix(";"):
        return False
    return _EFFECTS.match(sql) is not None and not _changes_session(sql)


def _changes_session(sql: str) -> bool:
    # Text with a semicolon is taken for a statement, too: then a connection is closed in vain.
    if any(_CHANGES_SESSION.match(part) is not None for part in sql.split(";")):
        return True
    lowered = sql.lower()
    found = any(hint in lowered for hint in _HINTS)  # the expression takes longer
    return found and _CHANGES_INSIDE.search(sql) is not None
