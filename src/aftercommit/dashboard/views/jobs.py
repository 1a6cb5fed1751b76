"""The list of jobs: by state, filtered, sorted, and with actions for some or all of them."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aftercommit import jobs as operations
from aftercommit.dashboard.filters import ORDERS, SINCE, JobFilter, task_names
from aftercommit.dashboard.rows import rows
from aftercommit.dashboard.visit import Visit, page
from aftercommit.errors import BadSelection
from aftercommit.models import State
from aftercommit.queues.named import configured
from aftercommit.store.browsing import NEWEST, JobPage

SIZE = 50
REFRESH = 5  # seconds
NOTHING = JobPage([], None, False)
# Which actions can change jobs of a state; of all states: each of them.
ACTIONS = {
    "retry": (State.FAILED, State.CANCELLED),
    "run": (State.READY,),
    "cancel": (State.READY, State.RUNNING),
    "delete": (State.SUCCEEDED, State.FAILED, State.CANCELLED),
}
NEEDS = {"retry": "retry", "run": "retry", "cancel": "cancel", "delete": "delete"}


@dataclass(frozen=True, slots=True)
class Tab:
    """A state with its number of jobs."""

    title: str
    number: str
    url: str
    is_current: bool
    state: str


@page()
def jobs(visit: Visit) -> HttpResponse:
    """Show a page of the list."""
    asked = JobFilter.of(visit.request.GET, visit.may)
    behind, problem, found = _behind(visit.request.GET.get("behind", "")), "", NOTHING
    try:
        wanted = asked.criteria()
        order = asked.order or NEWEST
        found = visit.store.browse(wanted, size=SIZE, order=order, behind=behind)
    except BadSelection as error:
        problem = str(error)
    return visit.render(
        "jobs",
        tab="jobs",
        title=_("Jobs"),
        asked=asked,
        problem=problem,
        states=_tabs(visit, asked),
        rows=rows(visit, found.jobs, visit.store.now()),
        is_cut=found.is_cut,
        next_url=_next(asked, found),
        is_first=behind is None,
        first_url=f"?{asked.query()}",
        actions=actions_for(visit, asked.state),
        queues=_queues(visit),
        tasks=task_names(),
        since=[(name, title) for name, (_span, title) in SINCE.items()],
        orders=_orders(asked),
        act_url=visit.url("act"),
        refresh=REFRESH,
        is_narrowed_further=not asked.given().keys() <= {"state", "task", "queue", "since"},
        is_narrowed=bool(asked.given().keys() - {"state"}),
    )


def actions_for(visit: Visit, state: str) -> list[tuple[str, str]]:
    """Return the actions that the user may do to jobs of a state, with their titles."""
    titles = {
        "retry": _("Retry"),
        "run": _("Run now"),
        "cancel": _("Cancel"),
        "delete": _("Delete"),
    }
    return [
        (name, titles[name])
        for name, states in ACTIONS.items()
        if visit.may[NEEDS[name]] and (not state or state in states)
    ]


def _tabs(visit: Visit, asked: JobFilter) -> list[Tab]:
    numbers = operations.counts(by="state", using=visit.using)
    tabs = [Tab(_("All"), "", f"?{asked.query(state='', order='')}", not asked.state, "")]
    for state, title in State.choices:
        url = f"?{asked.query(state=state, order='')}"
        shown = number(numbers[state])
        tabs.append(Tab(str(title), shown, url, state == asked.state, state))
    return tabs


def number(found: operations.Number) -> str:
    """Return a number of jobs; an estimate says so."""
    shown = number_format(found.jobs, force_grouping=True)
    return _("about %s") % shown if found.is_estimate else shown


def counted(value: int, *, more: bool) -> str:
    """Return a number of jobs in words, or that it is at least so many."""
    shown = f"{number_format(value, force_grouping=True)}{'+' * more}"
    return ngettext("%s job", "%s jobs", value) % shown


def _queues(visit: Visit) -> list[str]:
    """Return the queues to choose from, but for names that a row alone can have."""
    names = {*configured(visit.using), *visit.store.queues()}
    return sorted(one for one in names if one.isprintable())


def _orders(asked: JobFilter) -> list[tuple[str, Any]]:
    known = ORDERS if asked.state == State.READY else {k: ORDERS[k] for k in ("newest", "oldest")}
    return list(known.items())


def _next(asked: JobFilter, found: JobPage) -> str:
    if found.next is None:
        return ""
    query = asked.query()
    return f"?{query}{'&' * bool(query)}behind={found.next}"


def _behind(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
