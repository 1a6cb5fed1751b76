"""The id of a request goes on into the runs of the jobs that it has enqueued.

For django-guid and django-log-request-id, whichever is installed; else for ``request_id``, a
context variable that a middleware of the project may set. A job that was enqueued without a
request has no id, and one that is enqueued in a run has that of the run.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any

from aftercommit.middleware import Enqueuing, JobRun, around

HEADER = "request-id"
request_id: ContextVar[str] = ContextVar("aftercommit_request_id", default="")

Set = Callable[[str], AbstractContextManager[Any]]
Get = Callable[[], str | None]


@contextmanager
def _set(value: str) -> Iterator[None]:
    token = request_id.set(value)
    try:
        yield
    finally:
        request_id.reset(token)


def _django_guid() -> tuple[Get, Set] | None:
    try:
        from django_guid import clear_guid, get_guid, set_guid  # noqa: PLC0415 - it is optional
    except ImportError:
        return None

    @contextmanager
    def set_here(value: str) -> Iterator[None]:
        set_guid(value)
        try:
            yield
        finally:
            clear_guid()

    return get_guid, set_here


def _log_request_id() -> tuple[Get, Set] | None:
    try:
        from log_request_id import DEFAULT_NO_REQUEST_ID, local  # noqa: PLC0415 - the same
    except ImportError:
        return None

    def get() -> str | None:
        found = getattr(local, "request_id", None)
        return None if found in {None, DEFAULT_NO_REQUEST_ID} else str(found)

    @contextmanager
    def set_here(value: str) -> Iterator[None]:
        before = getattr(local, "request_id", None)
        local.request_id = value
        try:
            yield
        finally:
            local.request_id = before

    return get, set_here


WAYS: list[tuple[Get, Set]] = [
    (lambda: request_id.get() or None, _set),
    *(found for found in (_django_guid(), _log_request_id()) if found is not None),
]


def headers(_enqueuing: Enqueuing) -> dict[str, str]:
    """Return the id of the present request, or of the run that enqueues; none without one."""
    found = next((value for get, _set_here in WAYS if (value := get())), None)
    return {HEADER: found} if found else {}


@contextmanager
def _request(run: JobRun) -> Iterator[None]:
    value = run.headers.get(HEADER)
    with ExitStack() as stack:
        for _get, set_here in WAYS if value else ():
            stack.enter_context(set_here(str(value)))
        yield


middleware = around(_request, headers=headers)
