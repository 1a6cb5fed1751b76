"""What the actions of the page of jobs do: in batches, each a short transaction of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from aftercommit import jobs
from aftercommit.errors import BadSelection
from aftercommit.jobs import Progress, Selection
from aftercommit.models import Job, State
from aftercommit.options.queues import is_stored_name
from aftercommit.options.tags import is_tag
from aftercommit.windows.admin.filters import KINDS

ONE_BATCH = 500  # jobs of one transaction
MOST_NAMED = 20  # jobs of an action, in the admin's history
LONGEST_REPR, LONGEST_FILTER = 200, 1_000  # characters in the admin's history
ASKED = {"state": State.values.__contains__, "queue": is_stored_name, "tag": is_tag}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What has become of the chosen jobs."""

    chosen: int = 0
    changed: int = 0
    asked: int = 0  # running jobs that were asked to stop
    clashed: int = 0
    unmet: int = 0  # not retried: a job that they need has not succeeded

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
    changed: list[UUID] = []  # the first ones
    asked: dict[str, Any] = {
        name: value for name, good in ASKED.items() if good(value := request.GET.get(name))
    }
    if request.GET.get("state") in KINDS:
        asked["state"] = State.READY
    for job_ids in _batches(queryset):
        try:
            done = operation(jobs.find(ids=job_ids, using=queryset.db, **asked))
        except BadSelection:  # nothing of this state can be changed like that
            done = Progress()
        changed = [*changed, *done.latest][:MOST_NAMED]
        found = Done(
            chosen=found.chosen + len(job_ids),
            changed=found.changed + done.changed,
            asked=found.asked + done.asked,
            clashed=found.clashed + done.clashed,
            unmet=found.unmet + done.unmet,
        )
    if len(changed) == 1:
        _log_one(request, queryset.db, changed[0], what)
    elif changed:
        _log_many(request, found.changed, changed, what)
    return found


def _batches(queryset: QuerySet[Job]) -> Iterator[list[UUID]]:
    """Yield the ids, in their order, of what is chosen when a batch is read."""
    # Not the ids alone: what is no UUID (SQLite takes any value) must not be given back.
    plain = queryset.order_by("pk").values_list("pk", flat=True)
    rows = plain
    while job_ids := [one for one in rows[:ONE_BATCH] if one is not None]:
        yield job_ids
        rows = plain.filter(pk__gt=job_ids[-1])


def one(
    request: HttpRequest,
    job: Job,
    operation: Callable[[Selection], Progress],
    *,
    states: tuple[str, ...],
    what: str,
) -> Progress:
    """Change one job, if it is in one of these states."""
    using = str(job._state.db)
    done = operation(jobs.find(ids=[job.pk], state=states, using=using))
    if done.changed:
        _log_one(request, using, job.pk, what)
    return done


def _log_one(request: HttpRequest, using: str, job_id: UUID, what: str) -> None:
    """Write to the admin's history that the user has changed a job."""
    found = Job.objects.using(using).filter(pk=job_id).only("task_path").first()
    _log(request, str(job_id), str(found or job_id), what)


def _log_many(request: HttpRequest, number: int, first: list[UUID], what: str) -> None:
    """Write one line about all jobs of an action: what the list was about, and the first ids."""
    asked = request.GET.urlencode()[:LONGEST_FILTER]
    named = ", ".join(map(str, first)) + (" …" if number > len(first) else "")
    told = " ".join(filter(None, (what, asked and f"({asked})", named)))
    _log(request, None, _("%d jobs") % number, told)


def _log(request: HttpRequest, object_id: str | None, shown: str, what: str) -> None:
    by: Any = request.user.pk
    LogEntry.objects.create(
        user_id=by,
        content_type_id=ContentType.objects.get_for_model(Job).pk,
        object_id=object_id,
        object_repr=shown[:LONGEST_REPR],
        action_flag=CHANGE,
        change_message=what,
    )
