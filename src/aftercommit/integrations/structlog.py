"""structlog: the names of a run are bound to all lines that are logged during it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from structlog.contextvars import bound_contextvars

from aftercommit.middleware import JobRun, around


@contextmanager
def _bound(run: JobRun) -> Iterator[None]:
    names: dict[str, Any] = {
        "task": run.name,
        "queue": run.queue,
        "backend": run.backend,
        "attempt": run.attempt,
        "job_id": run.job_id,
    }
    if len(run.runs) > 1:
        names["jobs_in_call"] = len(run.runs)
    with bound_contextvars(**names):
        yield


middleware = around(_bound)
