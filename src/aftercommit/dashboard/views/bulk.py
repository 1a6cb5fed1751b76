"""Actions of the list of jobs: for those that are chosen, or for all that meet the filter."""

from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, HttpResponseBase, HttpResponseRedirect, QueryDict
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from aftercommit.dashboard import bulk
from aftercommit.dashboard.filters import JobFilter, kept_filter, told_filter
from aftercommit.dashboard.views.jobs import NEEDS, SIZE, actions_for, counted
from aftercommit.dashboard.visit import READ, WRITE, Visit, page
from aftercommit.errors import AftercommitError, BadSelection
from aftercommit.models import AuditRecord

ALL = "filter"


@page(methods=WRITE)
def act(visit: Visit) -> HttpResponseBase:
    """Do it to the chosen jobs; ask once more before it is done to all of a filter."""
    given = visit.request.POST
    action = given.get("action", "")
    try:
        asked = JobFilter.exactly(QueryDict(given.get("filter", "")), visit.may)
    except BadSelection as error:
        visit.say(str(error), well=False)
        return HttpResponseRedirect(visit.url("jobs"))
    page_url = f"{visit.url('jobs')}?{asked.query()}"
    titles = dict(actions_for(visit, ""))
    if action not in titles:
        return _refused(visit, action, page_url)
    if given.get("scope") != ALL:
        return _chosen(visit, action, asked, page_url)
    try:
        wanted = asked.criteria()
    except BadSelection as error:
        visit.say(str(error), well=False)
        return HttpResponseRedirect(page_url)
    if given.get("sure") != "yes":
        number, more = visit.store.count_some(wanted)
        return visit.render(
            "sure",
            tab="jobs",
            title=_("%(action)s all") % {"action": titles[action]},
            action=action,
            action_title=titles[action],
            asked=asked,
            filter=asked.query(),
            number=counted(number, more=more),
            back_url=page_url,
            act_url=visit.url("act"),
        )
    return _goes_on(visit, bulk.begin(visit, action, asked))


@page(methods=(*READ, *WRITE))
def progress(visit: Visit, number: int) -> HttpResponseBase:
    """Show how far an action has come; a POST goes on with it, or stops it."""
    record = visit.store.action(number)
    if record is None or "filter" not in record.details:
        raise Http404
    if visit.request.method == "POST":
        if not _may_go_on(visit, record):
            return _refused(visit, record.action, visit.url("jobs"))
        if "stop" in visit.request.POST:
            bulk.stop(visit, number)
            return HttpResponseRedirect(visit.url("bulk", number=number))
        if record.details.get("is_over"):
            return HttpResponseRedirect(visit.url("bulk", number=number))
        try:
            bulk.step(visit, record)
        except AftercommitError as error:  # of an archive, say: what is done is done
            visit.say(str(error), well=False)
        return _goes_on(visit, number)
    return _progress_page(visit, record)


def _progress_page(visit: Visit, record: AuditRecord) -> HttpResponse:
    titles = {"retry": _("Retry"), "run": _("Run now"), "cancel": _("Cancel")}
    is_over = bool(record.details.get("is_over"))
    may_go_on = not is_over and _may_go_on(visit, record)
    return visit.render(
        "bulk",
        tab="jobs",
        title=titles.get(record.action, _("Delete")),
        record=record,
        is_over=is_over,
        is_stopped=bool(record.details.get("stopped")),
        asked=told_filter(record.details, visit.may),
        found=counted(record.found, more=False),
        changed=counted(record.changed, more=False),
        jobs_url=f"{visit.url('jobs')}?{kept_filter(record.details, visit.may).query()}",
        may_go_on=may_go_on,
        goes_on=_goes_on_now(visit, record.pk) and may_go_on,
    )


def _goes_on(visit: Visit, number: int) -> HttpResponseRedirect:
    """Lead to the page, on which the script takes the next step by itself: once.

    Not each time the page is asked for: whoever comes back to it has asked for nothing.
    """
    session = getattr(visit.request, "session", None)
    if session is not None:
        session[_key(visit, number)] = True
    return HttpResponseRedirect(visit.url("bulk", number=number))


def _goes_on_now(visit: Visit, number: int) -> bool:
    session = getattr(visit.request, "session", None)
    if session is None or visit.request.method != "GET":
        return False
    return bool(session.pop(_key(visit, number), False))


def _key(visit: Visit, number: int) -> str:
    return f"aftercommit-goes-on-{visit.using}-{number}"


def _may_go_on(visit: Visit, record: AuditRecord) -> bool:
    is_mine = record.user_id == str(visit.request.user.pk)
    return is_mine and record.action in NEEDS and visit.may[NEEDS[record.action]]


def _chosen(visit: Visit, action: str, asked: JobFilter, page_url: str) -> HttpResponseBase:
    try:
        ids = tuple(UUID(one) for one in visit.request.POST.getlist("id")[:SIZE])
        done = bulk.of_ids(visit, action, ids, asked) if ids else None
    except (ValueError, AftercommitError) as error:
        visit.say(str(error), well=False)
        return HttpResponseRedirect(page_url)
    if done is None:
        visit.say(_("No job was chosen."), well=False)
        return HttpResponseRedirect(page_url)
    said = ngettext(
        "%(changed)d of %(chosen)d job is changed.",
        "%(changed)d of %(chosen)d jobs are changed.",
        len(ids),
    ) % {"changed": done.changed, "chosen": len(ids)}
    if done.asked:
        said += " " + _("%d of them run, and are asked to stop.") % done.asked
    if done.clashed:
        said += " " + _("%d of them: another job has its unique key.") % done.clashed
    visit.say(said, well=done.changed == len(ids))
    return visit.back(page_url)


def _refused(visit: Visit, action: str, page_url: str) -> HttpResponseBase:
    """Answer an action that does not exist, or that the user may not take."""
    if action in NEEDS:
        raise PermissionDenied
    visit.say(_("Choose what to do."), well=False)
    return HttpResponseRedirect(page_url)
