"""What the actions of the page of jobs do: in batches, each a short transaction of its own."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest

from aftercommit import jobs
from aftercommit.errors import BadSelection
from aftercommit.jobs import Progress, Selection
from aftercommit.models import Job, State
from aftercommit.options.queues import is_stored_name
from aftercommit.options.tags import is_tag

ONE_BATCH = 500  # jobs of one transaction, and of one statement of the admin's history
ASKED = {"state": State.values.__contains__, "queue": is_stored_name, "tag": is_tag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What has become of the chosen jobs."""

    chosen: int = 0
    changed: int = 0
    asked: int = 0  # running jobs that were asked to stop
    clashed: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all of them are changed."""
        return self.changed == self.chosen


def retry(request: HttpRequest, queryset: QuerySet[Job]) -> Done:
    """Make failed and cancelled jobs ready again."""
    return _each(request, queryset, Selection.retry, "Retried.")


def cancel(request: HttpRequest, queryset: QuerySet[Job]) -> Done:
    """Cancel ready jobs, and ask the workers of running jobs to stop."""
    return _each(request, queryset, Selection.cancel, "Cancelled.")


def _each(
    request: HttpRequest,
    queryset: QuerySet[Job],
    operation: Callable[[Selection], Progress],
    what: str,
) -> Done:
    # Each batch repeats what the filters of the page ask: a job that has started meanwhile is
    # not stopped if the page was about ready ones.
    found = Done()
    asked: dict[str, Any] = {
        name: value for name, good in ASKED.items() if good(value := request.GET.get(name))
    }
    for job_ids in _batches(queryset):
        try:
            done = operation(jobs.find(ids=job_ids, using=queryset.db, **asked))
        except BadSelection:  # nothing of this state can be changed like that
            done = Progress()
        _log(request, queryset.db, done.latest, what)
        found = Done(
            chosen=found.chosen + len(job_ids),
            changed=found.changed + done.changed,
            asked=found.asked + done.asked,
            clashed=found.clashed + done.clashed,
        )
    return found


def _batches(queryset: QuerySet[Job]) -> Iterator[list[UUID]]:
    """Yield the ids, in their order, of what is chosen when a batch is read."""
    rows = queryset.order_by("pk").only("pk")
    while job_ids := [row.pk for row in rows[:ONE_BATCH] if row.pk is not None]:
        yield job_ids
        rows = queryset.filter(pk__gt=job_ids[-1]).order_by("pk").only("pk")


def _log(request: HttpRequest, using: str, job_ids: Iterable[UUID], what: str) -> None:
    """Write to the admin's history which jobs the user has changed."""
    wanted = sorted(job_ids)
    if wanted:
        by: Any = request.user.pk
        changed = Job.objects.using(using).filter(pk__in=wanted).only("task_path")
        LogEntry.objects.log_actions(by, changed, CHANGE, what)
