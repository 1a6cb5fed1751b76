"""Imports the schedules of django-q2 that are due once. Its queues are pickled, and not read."""

import ast
from collections import Counter
from typing import Any

from aftercommit.importing.tables import TableSource
from aftercommit.importing.values import Message
from aftercommit.store.columns import moment_from
from aftercommit.store.other_tables import DJANGO_Q_QUEUE, DJANGO_Q_SCHEDULES, WaitingRows

ONCE, CRON, MINUTES = "O", "C", "I"
EVERY = {
    "H": "hour",
    "D": "day",
    "W": "week",
    "BW": "two weeks",
    "M": "month",
    "BM": "two months",
    "Q": "quarter",
    "Y": "year",
}
PICKLED = "they are pickled, which is never loaded: let the cluster run them"


class DjangoQ2(TableSource):
    """A schedule has its arguments as Python's literals; nothing else is evaluated."""

    name = "django-q2"
    table = DJANGO_Q_SCHEDULES

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._queue = WaitingRows(using, DJANGO_Q_QUEUE)

    def message(self, row: dict[str, Any]) -> Message:
        """See ``TableSource.message``."""
        args, kwargs, unfit = _call(row)
        return Message(
            key=str(row["id"]),
            task=row["func"],
            args=args,
            kwargs=kwargs,
            run_after=None if row["next_run"] is None else moment_from(row["next_run"]),
            unfit=_unfit(row) or unfit,
            raw=row["id"],
        )

    def elsewhere(self) -> Counter[str]:
        """Return how many calls are in the queue of the ORM broker."""
        return Counter({PICKLED: self._queue.held() if self._queue.exist() else 0})


def _unfit(row: dict[str, Any]) -> str | None:
    kind = row["schedule_type"]
    if kind == CRON:
        return f"it repeats: declare cron={row['cron']!r} on the task"
    if kind != ONCE:
        span = f"{row['minutes']} minutes" if kind == MINUTES else EVERY.get(kind, kind)
        return f"it repeats, each {span}: declare cron= or every= on the task"
    if row["hook"]:
        return "it has a hook"
    return "it wants the date as an argument" if row["intended_date_kwarg"] else None


def _call(row: dict[str, Any]) -> tuple[list[Any], dict[str, Any], str | None]:
    """Return the arguments, and why they cannot be read."""
    try:
        args = ast.literal_eval(row["args"]) if row["args"] else ()
        kwargs = _by_name(row["kwargs"]) if row["kwargs"] else {}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return [], {}, "its arguments are no literals"
    if kwargs.get("q_options"):
        return [], {}, "it has q_options"
    return (list(args) if isinstance(args, tuple) else [args]), kwargs, None


def _by_name(text: str) -> dict[str, Any]:
    """Read ``{"copy": True}``, or ``copy=True``."""
    if text.lstrip().startswith("{"):
        return dict(ast.literal_eval(text))
    call = ast.parse(f"f({text})", mode="eval").body
    if (
        not isinstance(call, ast.Call)
        or call.args
        or any(one.arg is None for one in call.keywords)
    ):
        raise ValueError(text)
    return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
