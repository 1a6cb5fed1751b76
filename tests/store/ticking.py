"""Schedules for the tests of the store: made by hand, and their clock is moved by their rows."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import F

from aftercommit.models import Job, Schedule, Tick
from aftercommit.schedules.spec import Spec
from aftercommit.schedules.ticking import Round, tick_due
from aftercommit.store.base import Store
from aftercommit.timing import ANCHOR

NOW = timedelta(0)
# About an hour, so that a moment passed ten minutes before these tests began.
_PASSED = datetime.now(tz=UTC) - timedelta(minutes=10) - ANCHOR
SPAN = _PASSED / (_PASSED // timedelta(hours=1))
NAME = "every-hour"
ADD = "tests.app.tasks.add"
PAYLOAD = '{"args":[1,2],"kwargs":{}}'


def make(
    store: Store, name: str = NAME, *, due: timedelta = timedelta(0), **given: Any
) -> datetime:
    """Make a schedule of people whose first moment passed so long ago; return that moment.

    Moments of ``every`` are multiples: the moment is rounded down to one.
    """
    spec = Spec(
        **{"task_path": ADD, "backend": "default", "payload": PAYLOAD, "every": SPAN} | given
    )
    first = next(spec.timing.moments(store.clock() - due - (spec.every or SPAN)))
    store.create_schedule(name=name, source="people", next_run=first, **spec.columns())
    return first


def row(name: str = NAME) -> Schedule:
    """Return a schedule as it is now."""
    return Schedule.objects.get(name=name)


def set_back(name: str = NAME, **columns: Any) -> None:
    """Write columns, as nobody should."""
    Schedule.objects.filter(name=name).update(**columns)


def ticks(name: str = NAME) -> list[datetime]:
    """Return the moments that were decided."""
    rows = Tick.objects.filter(schedule=name).order_by("moment")
    return list(rows.values_list("moment", flat=True))


def pass_time(span: timedelta) -> None:
    """Let time pass, as far as schedules know."""
    for one in Tick.objects.order_by("moment"):  # one by one: no two may have one moment
        Tick.objects.filter(pk=one.pk).update(moment=one.moment - span)
    Schedule.objects.update(next_run=F("next_run") - span)


def jobs() -> int:
    """Return how many jobs there are."""
    return Job.objects.count()


def tick(store: Store, **given: Any) -> Round:
    """Make what is due."""
    return tick_due(store, **given)
