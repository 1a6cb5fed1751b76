"""A task that turns pages, each in a transaction of its own with a checkpoint."""

from threading import Event
from typing import Any

from django.db import transaction

from aftercommit import task
from tests.app.chores import OFTEN, SOON
from tests.app.models import Effect

LASTING = 0.02  # seconds, of a page


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def turn_pages(context: Any, key: str, pages: int) -> int:
    """Leave one effect for each page, from the page on where the last run has stopped."""
    begin = page = context.saved or 0
    while page < pages:
        with transaction.atomic():
            Effect.objects.create(key=f"{key}:{page}", job_id=context.job_id)
            page += 1
            context.save(page)
            Event().wait(LASTING)
        context.progress(page, pages)
    return pages - begin
