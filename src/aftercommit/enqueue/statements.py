"""What a statement says, by its text; the answers are cached."""

import re
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any, TypeVar

Answer = TypeVar("Answer")
LONGEST_KEPT = 2_000  # characters; the answer for a longer statement is not cached
MOST_KEPT = 1_000  # statements

_SAVEPOINT = re.compile(
    r"\s*(?P<verb>savepoint|release|rollback\s+to)\s+(?:savepoint\s+)?(?P<name>\S+)",
    re.IGNORECASE,
)


def cached(classify: Callable[[str], Answer]) -> Callable[[Any, dict[str, Any]], Answer]:
    """Cache the answers of ``classify``; accept the arguments of an ``execute_wrapper``."""
    kept = lru_cache(MOST_KEPT)(classify)

    @wraps(classify)
    def answer(sql: Any, context: dict[str, Any]) -> Answer:
        if isinstance(sql, (bytes, bytearray)):
            sql = bytes(sql).decode(errors="replace")
        elif not isinstance(sql, str):  # composed by psycopg.sql
            as_string = getattr(sql, "as_string", None)  # not of a template string
            sql = repr(sql) if as_string is None else as_string(context["cursor"].cursor)
        return kept(sql) if len(sql) <= LONGEST_KEPT else classify(sql)

    return answer


@cached
def savepoint_of(sql: str) -> tuple[str, str] | None:
    """Return the verb (savepoint, release or rollback to) and name of a savepoint statement."""
    match = _SAVEPOINT.match(sql)
    return (match["verb"].lower(), match["name"].rstrip(";")) if match else None
