"""Metrics of the databases with jobs for Prometheus: a view, and the text by itself.

Needs ``aftercommit[prometheus]``.
"""

import secrets
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from aftercommit.errors import ConfigurationError
from aftercommit.windows.metrics.database import collect
from aftercommit.windows.metrics.families import exposed

__all__ = ["text", "view"]

BEARER = "Bearer "


def view(*, token: str | None) -> Callable[[HttpRequest], HttpResponse]:
    """Return a page with the metrics: ``path("metrics", metrics.view(token=...))``.

    ``token``: what the reader must send (``authorization: {credentials: ...}`` in Prometheus);
    None: whoever reaches the page reads the names of tasks and queues. An empty text is refused
    with ``ConfigurationError``: it is most likely a variable that is not set.

    It covers all workers on all machines, so let one target have it: what two of them report
    would be counted twice.
    """
    if token is not None and not token.strip():
        raise ConfigurationError(
            "aftercommit.metrics.view(): token is empty, so that anybody could read the page.\n"
            "Fix: pass a secret text, or token=None where the network keeps others out."
        )

    @require_safe
    @never_cache
    def metrics(request: HttpRequest) -> HttpResponse:
        if token is not None and not _knows(request, token):
            return HttpResponse(
                "A bearer token is needed.\n",
                status=401,
                content_type="text/plain; charset=utf-8",
                headers={"WWW-Authenticate": "Bearer"},
            )
        content, content_type = text(accept=request.headers.get("Accept", ""))
        return HttpResponse(content, content_type=content_type)

    return metrics


def text(*, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics as text, and its content type; ``accept``: that header of the reader.

    A database that does not answer has ``aftercommit_up`` 0, and nothing is raised.
    """
    return exposed(collect, accept=accept)


def _knows(request: HttpRequest, token: str) -> bool:
    given = request.headers.get("Authorization", "")
    is_bearer = given.startswith(BEARER)
    return (
        secrets.compare_digest(given.removeprefix(BEARER).encode(), token.encode()) and is_bearer
    )
