"""Periodic tasks: when they are due, and run, enable, disable, reset and remove them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _

from aftercommit import schedules
from aftercommit.dashboard.times import ago, span
from aftercommit.dashboard.views.scheduling import edit_url
from aftercommit.dashboard.visit import WRITE, Visit, page
from aftercommit.errors import AftercommitError
from aftercommit.printable import one_line

REFRESH = 10  # seconds
ACTIONS: dict[str, tuple[Any, str]] = {
    "run": (schedules.run_now, "run"),
    "enable": (schedules.enable, "schedules"),
    "disable": (schedules.disable, "schedules"),
    "reset": (schedules.reset, "schedules"),
    "remove": (schedules.remove, "delete_schedule"),
}
Impossible = (AftercommitError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Line:
    """A schedule as a page shows it."""

    name: str  # as it is stored, for forms
    shown: str
    when: str
    task: str
    source: str
    state: str
    late: str
    next_run: datetime | None
    next: str
    last_run: datetime | None
    last: str
    last_job: str
    missed: int
    skipped: int
    problem: str
    edited: str
    edit_url: str
    actions: list[tuple[str, str]]


@page()
def show(visit: Visit) -> HttpResponse:
    """Show all schedules of a database."""
    now = visit.store.now()
    may_make = visit.may.add_schedule and visit.may.arguments
    return visit.render(
        "schedules",
        tab="schedules",
        title=_("Schedules"),
        refresh=REFRESH,
        lines=[_line(visit, one, now) for one in schedules.find(visit.using)],
        act_url=visit.url("schedule-act"),
        new_url=visit.url("schedule-new") if may_make else "",
    )


@page(methods=WRITE)
def act(visit: Visit) -> HttpResponseBase:
    """Do something to one schedule."""
    given = visit.request.POST
    action, name = given.get("action", ""), given.get("name", "")
    if action not in ACTIONS:
        raise Http404
    operation, needs = ACTIONS[action]
    if not visit.may[needs]:
        raise PermissionDenied
    try:
        with visit.store.writing():
            operation(name, using=visit.using)
            visit.record(f"{action} schedule", subject=name)
    except Impossible as error:
        visit.say(str(error), well=False)
    else:
        visit.say(f"{_said(action)} {one_line(name)}")
    return HttpResponseRedirect(visit.url("schedules"))


def _line(visit: Visit, one: schedules.Schedule, now: datetime) -> Line:
    return Line(
        name=one.name,
        shown=one_line(one.name),
        when=one_line(one.when),
        task=one_line(one.task),
        source=one.source,
        state=one.state,
        late=span(one.late),
        next_run=one.next_run,
        next=ago(one.next_run, now),
        last_run=one.last_run,
        last=ago(one.last_run, now),
        last_job="" if one.last_job_id is None else visit.url("job", job_id=one.last_job_id),
        missed=one.missed,
        skipped=one.skipped,
        problem=one_line(one.problem),
        edited=", ".join(map(one_line, one.edited)),
        edit_url=edit_url(visit, one.name),
        actions=_actions(visit, one),
    )


def _actions(visit: Visit, one: schedules.Schedule) -> list[tuple[str, str]]:
    titles = [("run", _("Run now"))]
    if one.ended_at is None:
        titles.append(("disable", _("Disable")) if one.enabled else ("enable", _("Enable")))
    if one.edited:
        titles.append(("reset", _("Reset")))
    return [(name, title) for name, title in titles if visit.may[ACTIONS[name][1]]]


def _said(action: str) -> str:
    return {
        "run": _("A job is enqueued:"),
        "enable": _("Enabled:"),
        "disable": _("Disabled:"),
        "reset": _("As it is declared again:"),
        "remove": _("Deleted:"),
    }[action]
