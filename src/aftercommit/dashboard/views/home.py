"""The way in: which database, and a search for one job."""

from uuid import UUID

from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.utils.http import urlencode

from aftercommit.dashboard.access import refusal
from aftercommit.dashboard.visit import Visit, address, page
from aftercommit.windows.databases import databases


def home(request: HttpRequest) -> HttpResponseBase:
    """Go on to the database where the router writes jobs."""
    answer = refusal(request, ("view",))
    if answer is not None:
        return answer
    return HttpResponseRedirect(address(request, "overview", using=databases()[0]))


@page()
def find(visit: Visit) -> HttpResponseBase:
    """Go to the job with an id, or to the jobs of a task."""
    wanted = visit.request.GET.get("q", "").strip()
    try:
        job_id = UUID(wanted)
    except ValueError:
        return HttpResponseRedirect(f"{visit.url('jobs')}?{urlencode({'task': wanted})}")
    return HttpResponseRedirect(visit.url("job", job_id=job_id))
