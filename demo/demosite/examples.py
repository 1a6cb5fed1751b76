"""Pages of our own to measure, for a computer without the internet."""

import time
from collections.abc import Iterator

from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.views.decorators.http import require_safe

STORY = (
    "A task that is enqueued inside a transaction starts after the commit. "
    "If the transaction rolls back, the task never existed.\n"
)
LONGEST_WAIT = 30.0  # seconds


@require_safe
@transaction.non_atomic_requests
def page(request: HttpRequest) -> HttpResponse:
    """Answer at once."""
    return HttpResponse(STORY * 100, content_type="text/plain")


@require_safe
@transaction.non_atomic_requests
def slow(request: HttpRequest) -> StreamingHttpResponse:
    """Take ``?seconds=`` to say the same."""
    try:
        seconds = float(request.GET.get("seconds", "3"))
    except ValueError:
        seconds = 3.0
    seconds = seconds if 0 <= seconds <= LONGEST_WAIT else LONGEST_WAIT
    return StreamingHttpResponse(_drip(seconds), content_type="text/plain")


def _drip(seconds: float) -> Iterator[str]:
    # In small parts, so that a reader who has gone is noticed.
    parts = 20
    for _ in range(parts):
        yield STORY * 5
        time.sleep(seconds / parts)
