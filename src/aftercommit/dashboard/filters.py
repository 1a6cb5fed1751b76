"""The filters of the list of jobs: what is asked in an address, checked, and as criteria."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import MAXYEAR, MINYEAR, datetime, timedelta
from typing import Any, Self

from django.http import QueryDict
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit.dashboard.access import May
from aftercommit.enqueue.called import load_tasks
from aftercommit.enqueue.names import OURS, names_of
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import BadSelection
from aftercommit.jobs.asked import criteria
from aftercommit.models import State
from aftercommit.store.browsing import DUE, NEWEST, OLDEST
from aftercommit.store.criteria import Criteria

LONGEST = 500  # characters of one filter
FIELD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?")  # of datetime-local
HIDDEN = "[hidden]"
MOST_NAMES = 50  # tasks whose names contain a text
SINCE = {
    "15m": (timedelta(minutes=15), gettext_lazy("last 15 minutes")),
    "1h": (timedelta(hours=1), gettext_lazy("last hour")),
    "1d": (timedelta(days=1), gettext_lazy("last day")),
    "7d": (timedelta(days=7), gettext_lazy("last 7 days")),
}
ORDERS = {
    NEWEST: gettext_lazy("newest first"),
    OLDEST: gettext_lazy("oldest first"),
    DUE: gettext_lazy("due first"),
}


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What is asked; each as the text of the address, empty: does not matter."""

    state: str = ""
    task: str = ""
    queue: str = ""
    tag: str = ""
    arguments: str = ""
    error: str = ""
    since: str = ""
    begin: str = ""
    end: str = ""
    order: str = ""

    @classmethod
    def of(cls, query: Any, may: May) -> Self:
        """Return what an address asks, without what the user may not ask for.

        Whoever may not read arguments could find them out by searching.
        """
        given = {one.name: str(query.get(one.name, ""))[:LONGEST] for one in fields(cls)}
        if not may.arguments:
            given["arguments"] = ""
        if given["state"] not in State.values:
            given["state"] = ""
        if given["order"] not in ORDERS:
            given["order"] = ""
        return cls(**given)

    @classmethod
    def exactly(cls, query: Any, may: May) -> Self:
        """Return what an action is about: all that an address asks, or nothing at all.

        What ``of`` leaves out would let an action change more jobs than were meant.
        """
        found = cls.of(query, may)
        for one in fields(cls):
            asked = str(query.get(one.name, ""))
            if asked != getattr(found, one.name):
                raise BadSelection(one.name, _("what you may filter by"), asked[:LONGEST])
        return found

    def query(self, **changes: str) -> str:
        """Return it for an address, with changes."""
        other = replace(self, **changes)
        given = {one.name: getattr(other, one.name) for one in fields(other)}
        return urlencode({name: value for name, value in given.items() if value})

    def given(self) -> dict[str, str]:
        """Return what is asked, without the order."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: value for name, value in found.items() if value and name != "order"}

    @property
    def begin_shown(self) -> str:
        """What the field of a form can show of the moment."""
        return self.begin if FIELD.fullmatch(self.begin) else ""

    @property
    def end_shown(self) -> str:
        """The same for the other moment."""
        return self.end if FIELD.fullmatch(self.end) else ""

    def criteria(self) -> Criteria:
        """Return what the store is asked; raises ``BadSelection`` for what cannot be."""
        if not self.task.isprintable():
            raise BadSelection("task", _("a part of the name of a task"), self.task)
        since = SINCE.get(self.since)
        after: datetime | timedelta | None = since[0] if since else _moment(self.begin)
        found = criteria(
            ids=None,
            state=self.state or None,
            task=None,
            queue=self.queue or None,
            enqueued_before=_moment(self.end),
            enqueued_after=after,
            finished_before=None,
            error_contains=self.error or None,
            arguments_contain=self.arguments or None,
            tag=self.tag or None,
        )
        return replace(found, task_paths=tuple(paths_of(self.task))) if self.task else found


def kept_filter(details: Any, may: May) -> JobFilter:
    """Return what a record of the audit was about, without what the user may not ask for."""
    return JobFilter.of(_kept(details), may)


def told_filter(details: Any, may: May) -> dict[str, str]:
    """Return the same for a page: a text that the user may not search for is ``[hidden]``."""
    told = kept_filter(details, may).given()
    is_hidden = bool(_kept(details).get("arguments")) and not may.arguments
    return {**told, "arguments": HIDDEN} if is_hidden else told


def _kept(details: Any) -> QueryDict:
    kept = details.get("filter")
    return QueryDict(kept if isinstance(kept, str) else "")


def task_names() -> list[str]:
    """Return the names of the tasks that the code here declares."""
    load_tasks()
    names = {task.module_path for task in declared_tasks()}
    return sorted(one for one in names if not one.startswith(OURS))


def paths_of(text: str) -> Iterable[str]:
    """Return the names under which jobs may be stored of the tasks whose name contains a text."""
    load_tasks()
    wanted = text.casefold()
    tasks = [one for one in declared_tasks() if wanted in one.module_path.casefold()]
    exact = [one for one in tasks if one.module_path == text]
    names = {name for one in exact or tasks[:MOST_NAMES] for name in names_of(one)}
    return sorted({text, *names})


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = parse_datetime(text)
    except ValueError:
        found = None
    # Databases convert it to other time zones, which the first and the last year have not got.
    if found is None or not MINYEAR < found.year < MAXYEAR:
        raise BadSelection("time", _("a moment such as 2026-11-30T17:30"), text)
    return found if timezone.is_aware(found) else timezone.make_aware(found)
