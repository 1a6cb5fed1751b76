"""How long after a dispatch its task may start at the earliest."""

from datetime import timedelta

from aftercommit.lint.dispatchers import Dispatch
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr

DELAYS = {"countdown", "delay", "eta"}
UNITS = {"days", "hours", "milliseconds", "minutes", "seconds", "weeks"}
SHORT = timedelta(seconds=30)
LONG = timedelta(minutes=1)


def hides_the_race(call: Call, dispatch: Dispatch) -> bool:
    """Say whether a dispatch waits for some seconds, as if for a commit."""
    found = _first(_keywords(call), dispatch)
    return found is not None and timedelta(0) < found <= SHORT


def outlasts_transactions(call: Call, dispatch: Dispatch) -> bool:
    """Say whether the transaction has ended when the task starts, unless it takes very long."""
    given = _keywords(call)
    if call.callee[:1] == ("attr",) and call.callee[2] == "enqueue_in":
        given += call.args[:1]
    found = _first(given, dispatch)
    return found is not None and found >= LONG


def _keywords(call: Call) -> list[Expr]:
    return [value for name, value in call.keywords if name in DELAYS]


def _first(given: list[Expr], dispatch: Dispatch) -> timedelta | None:
    unit = timedelta(milliseconds=1) if dispatch.library == "dramatiq" else timedelta(seconds=1)
    spans = (_of_number(one, unit) or _of_timedelta(one) for one in given)
    return next((one for one in spans if one is not None), None)


def _of_number(value: Expr, unit: timedelta) -> timedelta | None:
    return value[1] * unit if value[:1] == ("const",) and _is_number(value[1]) else None


def _of_timedelta(value: Expr) -> timedelta | None:
    if value[:1] != ("call",) or not dotted(value[1]).endswith("timedelta") or value[2]:
        return None
    words = {name: part[1] for name, part in value[3] if part[:1] == ("const",)}
    if len(words) < len(value[3]) or not words.keys() <= UNITS:
        return None
    return timedelta(**words) if all(map(_is_number, words.values())) else None


def _is_number(value: object) -> bool:
    return type(value) in {int, float} and 0 <= value < 2**20  # type: ignore[operator]
