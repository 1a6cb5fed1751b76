"""schedule() with the arguments, the defaults and the retries of Django Async."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from aftercommit.django_async.groups import Group
from aftercommit.enqueue import functions
from aftercommit.enqueue.functions import deschedule
from aftercommit.enqueue.results import JobResult
from aftercommit.options.backoff import Polynomial
from aftercommit.options.checked import LARGEST_COUNT

__all__ = ["ENDLESS", "deschedule", "schedule"]

ENDLESS = LARGEST_COUNT  # attempts: as many as the column holds
USUAL_PRIORITY = 5


def schedule(
    function: str | Callable[..., Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    priority: int = USUAL_PRIORITY,
    run_after: datetime | None = None,
    group: str | Group | None = None,
    meta: dict[str, Any] | None = None,
) -> JobResult:
    """Enqueue a function that is tried again for ever, after 60 s x errors^1.6.

    See ``aftercommit.schedule``, which says what is raised.
    """
    return functions.schedule(
        function,
        args or (),
        kwargs,
        priority=priority,
        run_after=run_after,
        group=group.found if isinstance(group, Group) else group,
        meta=meta,
        max_attempts=ENDLESS,
        backoff=Polynomial(),
    )
