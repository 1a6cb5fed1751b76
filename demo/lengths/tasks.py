"""The job of this room."""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import F

from aftercommit import Discard, task
from lengths.fetch import AddressRefused, measure
from lengths.models import Page


@task(
    takes_context=True,
    max_attempts=3,
    backoff=timedelta(seconds=2),
    timeout=timedelta(seconds=20),
)
def fetch_length(context: Any, page_id: int) -> None:
    """Fetch outside any transaction; then the length and "done" are one commit."""
    page = Page.objects.get(pk=page_id)
    try:
        length = measure(page.url, own_origin=settings.ORIGIN)
    except AddressRefused as refusal:
        raise Discard(str(refusal)) from refusal
    with context.commit():
        Page.objects.filter(pk=page_id).update(length=length, stored=F("stored") + 1)
