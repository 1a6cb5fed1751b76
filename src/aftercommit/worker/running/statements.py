"""What the statements of tasks do, as far as their text tells."""

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Answer = TypeVar("Answer")
LONGEST_KEPT = 2_000  # characters; longer ones are looked at each time
MOST_KEPT = 1_000  # statements

_CHANGES_SESSION = re.compile(
    r"\s*(set|pragma|lock|use|attach|detach|reset|load|listen|prepare|declare|"
    r"create\s+((local|global)\s+)?temp(orary)?)\b|"
    r".*\b(set_config|get_lock|pg_(try_)?advisory_lock(_shared)?)\s*\(",
    re.IGNORECASE | re.DOTALL,
)
_TRANSACTION = re.compile(r"\s*(begin|start|xa|commit|rollback(?!\s+to))\b", re.IGNORECASE)
_EFFECTS = re.compile(
    r"\s*(select|insert|update|delete|with|values|merge|replace|savepoint|release|rollback\s+to)\b",
    re.IGNORECASE,
)
_SAVEPOINT = re.compile(
    r"\s*(?P<verb>savepoint|release|rollback\s+to)\s+(?:savepoint\s+)?(?P<name>\S+)",
    re.IGNORECASE,
)


def _told_once(tell: Callable[[str], Answer]) -> Callable[[Any, dict[str, Any]], Answer]:
    """Keep what was told of a statement, and take what an ``execute_wrapper`` is given."""
    kept = lru_cache(MOST_KEPT)(tell)

    @wraps(tell)
    def told(sql: Any, context: dict[str, Any]) -> Answer:
        if not isinstance(sql, str):  # put together by the means of psycopg
            sql = sql.as_string(context["cursor"].cursor)
        return kept(sql) if len(sql) <= LONGEST_KEPT else tell(sql)

    return told


@_told_once
def changes_session(sql: str) -> bool:
    """Tell whether the session may not be as before."""
    return _CHANGES_SESSION.match(sql) is not None


@_told_once
def may_leave_transaction(sql: str) -> bool:
    """Tell whether a transaction may be open afterwards behind Django's back.

    What Django sends for ``atomic()`` does not pass its cursors, but for savepoints.
    """
    return _TRANSACTION.match(sql) is not None


@_told_once
def may_be_shared(sql: str) -> bool:
    """Tell whether others may be in the same transaction.

    All but a few kinds of statements might end it, or outlive the body's savepoint.
    """
    return _EFFECTS.match(sql) is not None and _CHANGES_SESSION.match(sql) is None


@_told_once
def savepoint_of(sql: str) -> tuple[str, str] | None:
    """Return what a statement does to which savepoint: savepoint, release or rollback to."""
    match = _SAVEPOINT.match(sql)
    return (match["verb"].lower(), match["name"].rstrip(";")) if match else None
