"""The whole table by the names of functions and tasks, and samples of what has ended.

Each of these reads many rows, as Django Async's ``queue_health`` did: for now and then.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count, QuerySet, TextField
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Cast, Coalesce
from django.utils import timezone

from aftercommit.ids import first_id_of
from aftercommit.models import Job, State
from aftercommit.store.clock import ago
from aftercommit.store.members import Members

MOST = 10_000  # rows of a sample
LOOKS_BACK = 2  # times as long as a span: jobs that were enqueued before it and ended in it


class Run(NamedTuple):
    """A run that has succeeded, or goes on."""

    name: str
    due_at: datetime
    claimed_at: datetime
    finished_at: datetime | None


class Overview(Members):
    """Looks at all jobs."""

    def now(self) -> datetime:
        """Return the present moment by the database's clock."""
        return self._clock()

    def by_name(self, *states: str, grouped: bool | None = None) -> dict[str, int]:
        """Return how many jobs in these states there are of each function or task."""
        rows = self._called(self._jobs.filter(state__in=states))
        if grouped is not None:
            members = self._members.values("job_id")
            rows = rows.filter(id__in=members) if grouped else rows.exclude(id__in=members)
        found = rows.values_list("called").annotate(number=Count("id")).order_by("called")
        return dict(found)

    def first_and_last_end(self, state: str) -> tuple[UUID | None, UUID | None]:
        """Return the jobs that have ended in a state first and last."""
        rows = self._jobs.filter(state=state).order_by("finished_at", "id").only("id")
        first, last = rows.first(), rows.last()
        return (None if first is None else first.id, None if last is None else last.id)

    def failed_runs(self) -> int:
        """Return how many failed runs the jobs remember, of ``MOST`` jobs that have some."""
        rows = self._jobs.exclude(errors="[]").only("errors")[:MOST]
        return sum(len(row.error_list) for row in rows)

    def ended_lately(self, span: timedelta, *, names: Collection[str] = ()) -> list[Run]:
        """Return runs that have succeeded within a span, ``MOST`` at most, the newest first."""
        since = first_id_of(timezone.now() - LOOKS_BACK * span)
        rows = self._jobs.filter(state=State.SUCCEEDED, finished_at__gte=ago(span), id__gte=since)
        return self._runs(rows, names)

    def running_now(self) -> list[Run]:
        """Return the runs that go on."""
        return self._runs(self._jobs.filter(state=State.RUNNING), ())

    def unfinished_groups(self) -> list[UUID]:
        """Return the groups that have rows of jobs which have not ended."""
        live = self._jobs.filter(state__in=(State.READY, State.RUNNING)).values("id")
        rows = self._members.filter(job_id__in=live).values_list("group_id", flat=True)
        return list(rows.distinct())

    def young_or_unfinished(
        self, job_ids: Collection[UUID], *, older_than: timedelta
    ) -> set[UUID]:
        """Return those of these jobs whose group has jobs that have not ended so long ago."""
        rows = self._members.filter(job_id__in=job_ids).values_list("job_id", "group_id")
        members = list(rows)
        old = ago(older_than)
        kept = set()
        for group_id in {group_id for _job_id, group_id in members}:
            mine = self._members.filter(group_id=group_id).values("job_id")
            if self._jobs.filter(id__in=mine).exclude(finished_at__lt=old).exists():
                kept.add(group_id)
        return {job_id for job_id, group_id in members if group_id in kept}

    def _runs(self, rows: QuerySet[Job], names: Collection[str]) -> list[Run]:
        found = self._called(rows).filter(claimed_at__isnull=False)
        if names:
            found = found.filter(called__in=names)
        values = found.order_by("-id").values_list(
            "called", "run_after", "claimed_at", "finished_at"
        )
        return [Run._make(row) for row in values[:MOST]]

    def _called(self, rows: QuerySet[Job]) -> Any:
        function = KeyTextTransform("function", "meta")
        return rows.annotate(called=Coalesce(function, Cast("task_path", TextField())))
