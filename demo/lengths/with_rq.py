"""The job of this room as a job of django-rq; nothing here knows of aftercommit."""

from django.conf import settings
from django.db.models import F
from django_rq import job

from lengths.fetch import measure
from lengths.models import Page


@job(settings.PREFIX)
def fetch_length(page_id: int) -> None:
    """Fetch, and store the length once: a message may come twice."""
    page = Page.objects.get(pk=page_id)
    length = measure(page.url, own_origin=settings.ORIGIN)
    unmeasured = Page.objects.filter(pk=page_id, length=None)
    unmeasured.update(length=length, stored=F("stored") + 1)
