"""The database's clock, moved for the statements of one connection; for tests."""

import re
from datetime import timedelta
from functools import lru_cache
from typing import Any

MICROSECOND = timedelta(microseconds=1)
_NOW = {
    "postgresql": r"\b(?:statement_timestamp|clock_timestamp)\(\)",
    "mysql": r"\b(?:UTC_TIMESTAMP|CURRENT_TIMESTAMP)\(6\)",
    "sqlite": r"\bSTRFTIME\('[^']*', 'NOW'",  # other arguments may follow
}
_MOVED = {
    "postgresql": r"(\g<0> + INTERVAL '{microseconds} microseconds')",
    "mysql": r"TIMESTAMPADD(MICROSECOND, {microseconds}, \g<0>)",
    "sqlite": r"\g<0>, '{seconds:+.3f} seconds'",
}


class MovedClock:
    """An ``execute_wrapper``: each statement finds the clock moved by ``span``.

    It moves what this package and Django's ``Now()`` ask for, in the statement itself: no other
    session notices, and the clock goes on. A default of a column, which the server fills in,
    is not moved.
    """

    def __init__(self, span: timedelta) -> None:
        self.span = span

    def __call__(
        self, execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement by the moved clock."""
        vendor = context["connection"].vendor
        return execute(moved(str(sql), vendor, self.span), params, many, context)


@lru_cache(maxsize=512)
def moved(sql: str, vendor: str, span: timedelta) -> str:
    """Return a statement whose clock is moved."""
    if not span or vendor not in _NOW:
        return sql
    by = _MOVED[vendor].format(microseconds=span // MICROSECOND, seconds=span.total_seconds())
    return re.sub(_NOW[vendor], by, sql, flags=re.IGNORECASE)
