"""Enter an address; a job fetches it; the list tells how far it is."""

import time

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from aftercommit.models import Job
from demosite.queues import sending, task_of
from demosite.source import source_of
from lengths.forms import PageForm
from lengths.models import Page
from lengths.progress import progress_of

SHOWN = 20
fetch_length = task_of("lengths", "fetch_length")


@require_POST
def add(request: HttpRequest) -> HttpResponse:
    """Store the address and enqueue its job, in the request's one transaction."""
    form = PageForm(request.POST)
    if not form.is_valid():
        return _page(request, form, status=422)
    page = form.save()
    page.job_id = sending(fetch_length)(page.pk).id
    page.save(update_fields=["job_id"])
    time.sleep(1)  # the story's second: elsewhere the task starts now and finds no row
    return redirect("lengths")


# Reading needs no transaction; and SQLite's IMMEDIATE would wait for the only writer.
@require_safe
@transaction.non_atomic_requests
def show(request: HttpRequest) -> HttpResponse:
    """Show the form and the latest pages."""
    return _page(request, PageForm())


@require_safe
@transaction.non_atomic_requests
def rows(request: HttpRequest) -> JsonResponse:
    """Tell how far the latest pages are."""
    return JsonResponse({"rows": {"pages": _latest_rows()}})


def _page(request: HttpRequest, form: PageForm, *, status: int = 200) -> HttpResponse:
    context = {
        "form": form,
        "pages": _latest_rows(),
        "examples": _examples(),
        "source": source_of(add, fetch_length),
    }
    return render(request, "lengths/lengths.html", context, status=status)


def _latest_rows() -> list[dict[str, str]]:
    pages = list(Page.objects.order_by("-pk")[:SHOWN])
    jobs = Job.objects.in_bulk([page.job_id for page in pages])
    return [_row(page, jobs.get(page.job_id)) for page in pages]


def _row(page: Page, job: Job | None) -> dict[str, str]:
    return {
        "key": str(page.pk),
        "state": job.state if job else _state_elsewhere(page),
        "url": page.url,
        "length": "" if page.length is None else f"{page.length:,} bytes",
        "progress": progress_of(job) if job else _progress_elsewhere(page),
    }


def _state_elsewhere(page: Page) -> str:
    return "ready" if page.length is None else "succeeded"


def _progress_elsewhere(page: Page) -> str:
    """Say what can be seen of a job that is not in our table: another library's, or pruned."""
    return "not measured yet" if page.length is None else "done"


def _examples() -> list[tuple[str, str]]:
    page = settings.ORIGIN + reverse("example-page")
    slow = settings.ORIGIN + reverse("example-slow")
    return [
        ("a page of this site", page),
        ("one that takes 3 seconds", f"{slow}?seconds=3"),
        ("one that is not there", f"{page}missing"),
        ("one that is too slow", f"{slow}?seconds=30"),
        ("a private address", "http://192.168.0.1/"),
    ]
