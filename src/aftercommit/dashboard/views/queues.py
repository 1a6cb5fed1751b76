"""Queues and tasks: how deep they are, and pause, resume and limit them."""

from collections.abc import Callable
from typing import Any

from django.http import HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _

from aftercommit import queues
from aftercommit.dashboard.depths import queue_lines
from aftercommit.dashboard.filters import task_names
from aftercommit.dashboard.visit import WRITE, Visit, page
from aftercommit.errors import ConfigurationError, NothingToLimit, NothingToPause
from aftercommit.printable import one_line
from aftercommit.queues.pauses import LONGEST_NOTE
from aftercommit.values import QUEUE, TASK

REFRESH = 5  # seconds
LONGEST_NAME = 255
Call = Callable[..., queues.Answer]


@page()
def show(visit: Visit) -> HttpResponse:
    """Show the queues, and the tasks that are paused or limited at run time."""
    pauses = {one.name: one for one in queues.paused(visit.using) if one.kind == TASK}
    limits = {
        one.name: one
        for one in queues.limits(visit.using)
        if one.kind == TASK and one.at_run_time
    }
    tasks = [
        (name, one_line(name), pauses.get(name), limits.get(name))
        for name in sorted({*pauses, *limits})
    ]
    return visit.render(
        "queues",
        tab="queues",
        title=_("Queues"),
        refresh=REFRESH,
        queues=queue_lines(visit),
        tasks=tasks,
        names=task_names(),
        rates=queues.paused_rates(visit.using),
        act_url=visit.url("queue-act"),
        longest_note=LONGEST_NOTE,
    )


@page("pause", methods=WRITE)
def act(visit: Visit) -> HttpResponseBase:
    """Pause, resume or limit a queue or a task."""
    given = visit.request.POST
    action, kind, name = (given.get(one, "") for one in ("action", "kind", "name"))
    here = HttpResponseRedirect(visit.url("queues"))
    try:
        call = _call(visit, action)
        if kind not in (QUEUE, TASK) or not name or len(name) > LONGEST_NAME:
            raise ConfigurationError(_("Name a queue or a task."))
        with visit.store.writing():
            answer = call(**{kind: name}, using=visit.using)
            for _alias, changed in answer.changed:
                details = {one: given[one] for one in ("why", "limit") if given.get(one)}
                visit.record(action, subject=f"{kind} {changed}", details=details)
    except (ConfigurationError, NothingToPause, NothingToLimit) as error:
        visit.say(str(error), well=False)
        return here
    if not answer.changed:
        visit.say(_("Nothing has changed: it was so already."), well=False)
    for _alias, changed in answer.changed:
        visit.say(f"{_said(action)} {one_line(changed)}")
    return here


def _call(visit: Visit, action: str) -> Call:
    if action == "pause":
        why = visit.request.POST.get("why", "").strip()[:LONGEST_NOTE]
        return _with(queues.pause, by=visit.by[:LONGEST_NOTE], why=why)
    if action == "limit":
        return _with(queues.limit, limit=_number(visit.request.POST.get("limit", "")))
    if action in ("resume", "unlimit"):
        return queues.resume if action == "resume" else queues.unlimit
    raise ConfigurationError(_("Choose what to do."))


def _with(call: Call, **more: Any) -> Call:
    return lambda **given: call(**given, **more)


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigurationError(_("Say how many jobs may run at once.")) from None


def _said(action: str) -> str:
    return {
        "pause": _("Paused:"),
        "resume": _("Resumed:"),
        "limit": _("Limited:"),
        "unlimit": _("Limited by code and settings again:"),
    }[action]
