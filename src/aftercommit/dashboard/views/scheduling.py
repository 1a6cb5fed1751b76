"""One schedule: the form that makes it, and the one that changes it.

The form is that of the admin. To see and change arguments needs their permission as well.
"""

from typing import Any
from urllib.parse import urlencode

from django.http import Http404, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit import schedules
from aftercommit.dashboard.visit import READ, WRITE, Visit, page
from aftercommit.enqueue.called import load_tasks
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.names import OURS
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.models import Schedule
from aftercommit.printable import one_line
from aftercommit.schedules.found import of_row
from aftercommit.windows.admin.schedule_form import CALLED, TIMES, Impossible, ScheduleForm

ONLY_NEW = ("name", "task_path", "backend")
PARTS = (
    (None, (*ONLY_NEW, "enabled")),
    (gettext_lazy("When"), TIMES),
    (gettext_lazy("Job"), CALLED),
)
MOST_SHOWN = 5  # moments that come


@page("add_schedule", "arguments", methods=(*READ, *WRITE))
def new(visit: Visit) -> HttpResponseBase:
    """Show an empty form; make the schedule that it describes."""
    form = ScheduleForm(_posted(visit))
    aliases = [one.alias for one in our_backends() if one.using == visit.using]
    form.fields["backend"].choices = [(one, one) for one in aliases]  # type: ignore[attr-defined]
    form.fields["task_path"].widget.attrs["list"] = "tasks"
    if form.is_bound and form.is_valid() and _written(visit, form, "create schedule"):
        visit.say(_("The schedule is made."))
        return HttpResponseRedirect(visit.url("schedules"))
    load_tasks()
    names = sorted(one.module_path for one in declared_tasks())
    return _shown(
        visit,
        form,
        title=_("New schedule"),
        tasks=[one for one in names if not one.startswith(OURS)],
    )


@page("schedules", "arguments", methods=(*READ, *WRITE))
def edit(visit: Visit) -> HttpResponseBase:
    """Show a schedule in a form; write what was changed."""
    found = visit.store.schedules([visit.request.GET.get("name", "").replace("\0", "")])
    if not found:
        raise Http404(_("There is no such schedule."))
    (row,) = found
    form = ScheduleForm(_posted(visit), instance=row)
    for name in ONLY_NEW:
        del form.fields[name]
    if form.is_bound and form.is_valid() and _written(visit, form, "edit schedule"):
        visit.say(_("The schedule is changed."))
        return HttpResponseRedirect(visit.url("schedules"))
    return _shown(
        visit,
        form,
        title=one_line(row.name),
        task=one_line(row.task_path),
        upcoming=_upcoming(visit, row),
        name=row.name,
        can_be_removed=visit.may.delete_schedule
        and (row.source == Schedule.Source.PEOPLE or row.ended_at is not None),
        act_url=visit.url("schedule-act"),
    )


def edit_url(visit: Visit, name: str) -> str:
    """Return the address of the form of a schedule; empty: this user may not open it."""
    if not (visit.may.schedules and visit.may.arguments):
        return ""
    return f"{visit.url('schedule-edit')}?{urlencode({'name': name})}"


def _posted(visit: Visit) -> Any:
    return visit.request.POST if visit.request.method == "POST" else None


def _written(visit: Visit, form: ScheduleForm, action: str) -> bool:
    """Write what the form says, with a record; False, and an error of the form: impossible."""
    # Not the values: the audit is read by people who may not read arguments.
    changed = ", ".join(form.changed_data)
    try:
        with visit.store.writing():
            written = form.write()
            visit.record(action, subject=written.name, details={"changed": changed})
    except Impossible as error:
        form.add_error(None, str(error))
        return False
    return True


def _shown(visit: Visit, form: ScheduleForm, **context: Any) -> HttpResponseBase:
    form.label_suffix = ""
    for name in ("args", "kwargs"):
        form.fields[name].widget.attrs |= {"rows": 3, "spellcheck": "false"}
    parts = [
        (title, [form[name] for name in names if name in form.fields]) for title, names in PARTS
    ]
    return visit.render(
        "schedule",
        tab="schedules",
        form=form,
        parts=parts,
        schedules_url=visit.url("schedules"),
        **context,
    )


def _upcoming(visit: Visit, row: Schedule) -> list[str]:
    try:
        found = schedules.upcoming(row.name, MOST_SHOWN, using=visit.using)
    except Impossible:  # it says what cannot be; the form says so as well
        return []
    one = of_row(visit.using, row, visit.store.now())
    return [f"{one.local(moment):%Y-%m-%d %H:%M:%S %Z}" for moment in found]
