"""One job: all that is known of it, and what can be done with it."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponseBase, HttpResponseRedirect
from django.utils.translation import gettext as _

from aftercommit import jobs
from aftercommit.dashboard import copying
from aftercommit.dashboard.details import details_of
from aftercommit.dashboard.visit import READ, WRITE, Visit, page
from aftercommit.errors import AftercommitError
from aftercommit.jobs import Selection
from aftercommit.models import FINISHED, LIVE, UNSUCCESSFUL, Job, State
from aftercommit.windows.admin import content

REFRESH = 3  # seconds
ACTIONS = {
    "retry": (Selection.retry, "retry", UNSUCCESSFUL),
    "run": (Selection.run_now, "retry", (State.READY,)),
    "cancel": (Selection.cancel, "cancel", LIVE),
    "delete": (Selection.prune, "delete", FINISHED),
}


@page()
def job(visit: Visit, job_id: UUID) -> HttpResponseBase:
    """Show a job."""
    row = _found(visit, job_id)
    details = details_of(visit, row)
    can_copy = visit.may.enqueue and visit.may.arguments and copying.can_copy(row)
    return visit.render(
        "job",
        tab="jobs",
        refresh=REFRESH if row.state in LIVE else 0,
        title=details.row.name,
        job=row,
        details=details,
        actions=_actions(visit, row, is_later=details.is_later),
        act_url=visit.url("job-act", job_id=job_id),
        copy_url=visit.url("job-copy", job_id=job_id) if can_copy else "",
        jobs_url=visit.url("jobs"),
    )


@page(methods=WRITE)
def act(visit: Visit, job_id: UUID) -> HttpResponseBase:
    """Retry, run now, cancel or delete a job."""
    action = visit.request.POST.get("action", "")
    if action not in ACTIONS:
        raise Http404
    operation, needs, states = ACTIONS[action]
    if not visit.may[needs]:
        raise PermissionDenied
    here = visit.url("job", job_id=job_id)
    selection = jobs.find(ids=[job_id], state=states, using=visit.using)
    try:
        with visit.store.writing():
            done = operation(selection)
            visit.record(action, subject=str(job_id), found=1, changed=done.changed, details={})
    except AftercommitError as error:
        visit.say(str(error), well=False)
        return HttpResponseRedirect(here)
    if done.clashed:
        visit.say(_("Another job has its unique key now."), well=False)
    elif not done.changed:
        visit.say(_("Nothing was changed: the job is in another state by now."), well=False)
    elif done.asked:
        visit.say(_("Its worker is asked to stop."))
    else:
        visit.say(_said(action))
    return HttpResponseRedirect(visit.url("jobs") if _is_gone(visit, job_id) else here)


@page("enqueue", "arguments", methods=(*READ, *WRITE))
def copy(visit: Visit, job_id: UUID) -> HttpResponseBase:
    """Show a form with the call of a job; enqueue what it says."""
    row = _found(visit, job_id)
    if not copying.can_copy(row):
        raise Http404
    posted = visit.request.POST if visit.request.method == "POST" else None
    form = copying.CopyForm(posted, job=row)
    if posted is not None and form.is_valid():
        new_id = copying.enqueue(visit, form)
        if new_id is not None:
            visit.say(_("The copy is enqueued: this is its job."))
            return HttpResponseRedirect(visit.url("job", job_id=new_id))
    return visit.render(
        "copy",
        tab="jobs",
        title=_("Enqueue a copy"),
        form=form,
        name=content.name_of(row),
        job_url=visit.url("job", job_id=job_id),
    )


def _found(visit: Visit, job_id: UUID) -> Job:
    row = visit.store.job(job_id)
    if row is None:
        raise Http404(_("There is no such job. Ended jobs are deleted after some time."))
    return row


def _is_gone(visit: Visit, job_id: UUID) -> bool:
    return not visit.store.jobs([job_id])


def _actions(visit: Visit, row: Job, *, is_later: bool) -> list[tuple[str, str]]:
    titles = {
        "retry": _("Retry"),
        "run": _("Run now"),
        "cancel": _("Cancel"),
        "delete": _("Delete"),
    }
    return [
        (name, titles[name])
        for name, (_operation, needs, states) in ACTIONS.items()
        if row.state in states and visit.may[needs] and (name != "run" or is_later)
    ]


def _said(action: str) -> str:
    return {
        "retry": _("The job is ready again."),
        "run": _("The job is due now."),
        "cancel": _("The job is cancelled."),
        "delete": _("The job is deleted."),
    }[action]
