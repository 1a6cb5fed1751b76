"""Groups with their progress, and graphs of jobs that wait for each other."""

from dataclasses import dataclass
from uuid import UUID

from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _

from aftercommit.dashboard.drawing import BOX, HIGH, Drawing, draw
from aftercommit.dashboard.rows import rows, state_of
from aftercommit.dashboard.times import ago, span
from aftercommit.dashboard.visit import WRITE, Visit, page
from aftercommit.enqueue.group_results import GroupResult
from aftercommit.models import Group
from aftercommit.printable import one_line
from aftercommit.store.criteria import Criteria
from aftercommit.windows.admin import content

REFRESH = 5  # seconds
REFRESH_RARELY = 60  # of a large group, whose jobs are counted each time
LARGE = 10_000  # jobs
SIZE = 25  # groups of a page: each counts its jobs
MOST_JOBS = 200  # of a group, in its list
MOST_DRAWN = 100  # jobs of a graph
LONGEST_LABEL = 26  # characters in a box


@dataclass(frozen=True, slots=True)
class Line:
    """A group as a page shows it."""

    id: UUID
    url: str
    name: str
    description: str
    created: str
    state: str
    done: int
    total: int
    percent: str
    running: int
    succeeded: int
    failed: int
    cancelled: int
    time_left: str
    is_over: bool


@dataclass(frozen=True, slots=True)
class Box:
    """A job in a drawing."""

    x: str
    y: str
    text_x: str
    name_y: str
    state_y: str
    url: str
    name: str
    label: str
    state: str
    shown_state: str
    is_this: bool


@page()
def show(visit: Visit) -> HttpResponse:
    """Show the groups that were made last."""
    found = visit.store.latest_groups(limit=SIZE)
    return visit.render(
        "groups",
        tab="groups",
        title=_("Groups"),
        lines=[_line(visit, one) for one in found],
        is_cut=len(found) == SIZE,
    )


@page()
def group(visit: Visit, group_id: UUID) -> HttpResponse:
    """Show a group with its jobs and, if they wait for each other, a drawing."""
    row = _found(visit, group_id)
    members = visit.store.some_of_group(group_id, limit=MOST_JOBS + 1)
    found = visit.store.browse(Criteria(ids=tuple(members[:MOST_JOBS])), size=MOST_JOBS)
    line = _line(visit, row)
    drawn = members[:MOST_DRAWN] + [one for one in (row.final_id,) if one is not None]
    return visit.render(
        "group",
        tab="groups",
        title=one_line(str(row)),
        refresh=REFRESH if line.total <= LARGE else REFRESH_RARELY,
        line=line,
        rows=rows(visit, found.jobs, visit.store.now()),
        is_cut=len(members) > MOST_JOBS,
        act_url=visit.url("group-act", group_id=group_id),
        groups_url=visit.url("groups"),
        **_drawn(visit, drawn, this=None),
    )


@page("groups", methods=WRITE)
def act(visit: Visit, group_id: UUID) -> HttpResponseBase:
    """Cancel the jobs of a group."""
    row = _found(visit, group_id)
    number = visit.record("cancel group", subject=str(group_id))
    answer = GroupResult(row, using=visit.using).cancel()
    ended, asked = len(answer.ended), len(answer.requested)
    visit.store.count_action(number, found=ended + asked, changed=ended + asked, details={})
    said = _("%(ended)d jobs are cancelled, %(asked)d more are asked to stop.")
    visit.say(said % {"ended": ended, "asked": asked})
    return HttpResponseRedirect(visit.url("group", group_id=group_id))


@page()
def graph(visit: Visit, job_id: UUID) -> HttpResponse:
    """Draw what a job needs and what needs it, as far as ``MOST_DRAWN`` jobs."""
    found = visit.store.connected(job_id, limit=MOST_DRAWN + 1)
    return visit.render(
        "graph",
        tab="jobs",
        title=_("Graph"),
        refresh=REFRESH,
        job_url=visit.url("job", job_id=job_id),
        is_cut=len(found) > MOST_DRAWN,
        **_drawn(visit, found[:MOST_DRAWN], this=job_id),
    )


def _drawn(visit: Visit, job_ids: list[UUID], *, this: UUID | None) -> dict[str, object]:
    edges = visit.store.edges_among(job_ids)
    if not edges:
        return {"drawing": None, "boxes": []}
    drawing = draw(job_ids, edges)
    return {"drawing": drawing, "boxes": _boxes(visit, drawing, this), "box": BOX, "high": HIGH}


def _boxes(visit: Visit, drawing: Drawing, this: UUID | None) -> list[Box]:
    jobs = {job.id: job for job in visit.store.jobs(list(drawing.places))}
    boxes = []
    for job_id, place in drawing.places.items():
        job = jobs.get(job_id)
        name = str(job_id) if job is None else content.name_of(job)
        boxes.append(
            Box(
                x=str(place.x),
                y=str(place.y),
                text_x=str(place.x + 12),
                name_y=str(place.y + 18),
                state_y=str(place.y + 35),
                url=visit.url("job", job_id=job_id),
                name=name,
                label=_short(name),
                state="gone" if job is None else str(job.state),
                shown_state=_("deleted") if job is None else state_of(job),
                is_this=job_id == this,
            )
        )
    return boxes


def _short(name: str) -> str:
    """Return the end of a path, which tells tasks apart."""
    return name if len(name) <= LONGEST_LABEL else f"…{name[1 - LONGEST_LABEL :]}"


def _found(visit: Visit, group_id: UUID) -> Group:
    row = visit.store.group(group_id)
    if row is None:
        raise Http404(_("There is no such group."))
    return row


def _line(visit: Visit, row: Group) -> Line:
    found = GroupResult(row, using=visit.using)
    is_over = found.is_finished
    state = _("ended") if is_over else _("goes on")
    return Line(
        id=row.id,
        url=visit.url("group", group_id=row.id),
        name=one_line(str(row)),
        description=one_line(row.description)[:1000],
        created=ago(row.created_at, visit.store.now()),
        state=_("cancelled") if found.is_cancelled else state,
        done=found.done,
        total=found.total,
        percent=str(int(found.progress * 100)),
        running=found.running,
        succeeded=found.succeeded,
        failed=found.failed,
        cancelled=found.cancelled,
        time_left=span(found.estimate),
        is_over=is_over,
    )
