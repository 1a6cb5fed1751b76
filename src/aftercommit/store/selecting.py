"""Finds and changes jobs by what is true of them, in batches, beside workers.

A batch is found by a read that locks nothing, and is written by a statement that repeats the
whole condition, so a job that a worker has changed in between is left alone.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db.models import Func, IntegerField, Q, QuerySet, Value
from django.db.models.lookups import GreaterThan
from django.utils import timezone

from aftercommit.ids import first_id_of
from aftercommit.models import FINISHED, UNSUCCESSFUL, Blocked, Job, Member, State
from aftercommit.options.backoff import LONGEST_WAIT
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.options.tags import in_column
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.criteria import STATES, Criteria
from aftercommit.store.operations import CancelAnswer, Operations, Retried
from aftercommit.store.pruning import READ, EndedJob, ended_among
from aftercommit.store.table import Table

ONE_BATCH = 500  # jobs that one transaction changes
ONE_WINDOW = 10_000  # rows that one statement reads
CLOCKS_APART = timedelta(days=1)  # at most, of callers and the database
NOT_STARTED = (State.READY, *UNSUCCESSFUL)  # what no worker has in its hands


class Place(Func):
    """Where a text begins in a column, compared by bytes; 0 if it is not in there."""

    function = "STRPOS"
    output_field = IntegerField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """Not LIKE, which does not see the case of letters."""
        return self.as_sql(compiler, connection, function="INSTR", **context)

    def as_mysql(self, compiler: Any, connection: Any, **_context: Any) -> Any:
        """By bytes, whatever the collation of the column is."""
        parts = [compiler.compile(one) for one in self.get_source_expressions()]
        sql = ", ".join(f"CAST({part} AS BINARY)" for part, _given in parts)
        return f"INSTR({sql})", [value for _part, given in parts for value in given]


def condition(wanted: Criteria) -> Q:
    """Return criteria as a condition for the ORM."""
    plain = {
        "id__in": wanted.ids,
        "state__in": None if wanted.states == STATES else wanted.states,
        "task_path__in": wanted.task_paths,
        "queue": wanted.queue,
        "enqueued_at__lt": _moment(wanted.enqueued_before),
        "enqueued_at__gte": _moment(wanted.enqueued_after),
        "finished_at__lt": _moment(wanted.finished_before),
        "id__lte": wanted.until,
    }
    found = Q(**{name: value for name, value in plain.items() if value is not None})
    if wanted.error_contains is not None:
        # As it stands in the JSON of the column.
        found &= _contains("errors", json.dumps(wanted.error_contains)[1:-1])
    if wanted.arguments_contain is not None:
        found &= _contains_argument(wanted.arguments_contain)
    if wanted.tag is not None:
        found &= _contains("tags", in_column(wanted.tag))
    if wanted.group is not None:
        found &= Q(id__in=Member.objects.filter(group_id=wanted.group).values("job_id"))
    return found


def _moment(before: datetime | timedelta | None) -> Any:
    return ago(before) if isinstance(before, timedelta) else before


def _end_of(wanted: Criteria) -> UUID | None:
    """Return an id behind all that were made before the moments that are asked for.

    Ids begin with the time at which they were made, by the clock of the caller.
    """
    given = [one for one in (wanted.enqueued_before, wanted.finished_before) if one is not None]
    now = timezone.now()
    moments = [
        now - min(one, LONGEST_WAIT) if isinstance(one, timedelta) else one for one in given
    ]
    latest = datetime.max.replace(tzinfo=UTC) - CLOCKS_APART
    ends = [first_id_of(min(one, latest) + CLOCKS_APART) for one in moments]
    return min(ends, default=None)


def _begin_of(wanted: Criteria) -> UUID | None:
    """Return an id before all that were made after the moment that is asked for."""
    given = wanted.enqueued_after
    if given is None:
        return None
    moment = timezone.now() - min(given, LONGEST_WAIT) if isinstance(given, timedelta) else given
    earliest = datetime.min.replace(tzinfo=UTC) + CLOCKS_APART
    return first_id_of(max(moment, earliest) - CLOCKS_APART)


def _contains(column: str, text: str) -> Q:
    return Q(GreaterThan(Place(column, Value(text)), 0))


def _contains_argument(text: str) -> Q:
    """Return the condition for a part of the arguments, however its letters are written in JSON.

    Not of messages: what they hold need not be text.
    """
    escaped, plain = (
        json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)
    )
    found = _contains("payload", escaped)
    found = found if plain == escaped else found | _contains("payload", plain)
    return found & ~Q(queue__startswith=QUEUE_PREFIX)


def _of(limited_tasks: Collection[str]) -> Q:
    return Q(limit_key__isnull=False, task_path__in=limited_tasks)


class Finding(Table):
    """Walks the table, or an index that has all that is wanted."""

    def find(self, wanted: Criteria, *, after: UUID | None = None) -> Iterator[list[UUID]]:
        """Yield the ids of the jobs that meet the criteria, in their order, in batches.

        No statement reads more than ``ONE_WINDOW`` rows, however few of them are wanted.
        Jobs that begin to meet the criteria behind the walk are not found.
        """
        for rows in self._windows(wanted, after):
            ids = [row.id for row in rows.order_by("id").only("id") if row.id is not None]
            for start in range(0, len(ids), ONE_BATCH):
                yield ids[start : start + ONE_BATCH]

    def count(self, wanted: Criteria, *, after: UUID | None = None) -> int:
        """Return how many jobs meet the criteria."""
        return sum(rows.count() for rows in self._windows(wanted, after))

    def exists(self, wanted: Criteria, *, after: UUID | None = None) -> bool:
        """Return whether a job meets the criteria."""
        return any(rows.exists() for rows in self._windows(wanted, after))

    def jobs_among(self, job_ids: Sequence[UUID], wanted: Criteria) -> list[Job]:
        """Return those of these jobs that still meet the criteria, in the order of ids."""
        return list(self._jobs.filter(condition(wanted), id__in=job_ids).order_by("id"))

    def _windows(self, wanted: Criteria, after: UUID | None) -> Iterator[QuerySet[Job]]:
        if wanted.ids is not None:
            yield from self._slices(wanted.ids, replace(wanted, ids=None), after)
            return
        if wanted.group is not None:
            yield from self._of_group(wanted.group, wanted.of_any_id(), after)
            return
        walked, found = self._walked(wanted), condition(wanted)
        while wanted.states:
            rest = walked if after is None else walked.filter(id__gt=after)
            # Not values_list(): see ``operations.prune``.
            ends = list(rest.order_by("id").only("id")[ONE_WINDOW - 1 : ONE_WINDOW])
            if not ends:
                yield rest.filter(found)
                return
            yield rest.filter(found, id__lte=ends[0].id)
            after = ends[0].id

    def _slices(
        self, ids: Sequence[UUID], wanted: Criteria, after: UUID | None
    ) -> Iterator[QuerySet[Job]]:
        # No statement names more ids than a batch: MariaDB looks up no more of them one by one,
        # and a server may refuse a statement that names 100,000.
        left = sorted(one for one in set(ids) if after is None or one > after)
        for start in range(0, len(left), ONE_BATCH):
            yield self._jobs.filter(condition(wanted), id__in=left[start : start + ONE_BATCH])

    def _of_group(
        self, group_id: UUID, wanted: Criteria, after: UUID | None
    ) -> Iterator[QuerySet[Job]]:
        members = Member.objects.using(self.alias).filter(group_id=group_id).order_by("job_id")
        rest = members if after is None else members.filter(job_id__gt=after)
        while ids := list(rest.values_list("job_id", flat=True)[:ONE_BATCH]):
            yield self._jobs.filter(condition(wanted), id__in=ids)
            rest = members.filter(job_id__gt=ids[-1])

    def _walked(self, wanted: Criteria) -> QuerySet[Job]:
        """Return as few rows as an index has in one piece that may meet the criteria."""
        rows, end, begin = self._jobs.all(), _end_of(wanted), _begin_of(wanted)
        if set(wanted.states) <= set(UNSUCCESSFUL):
            rows = rows.filter(unsuccessful=True)
        if begin is not None:
            rows = rows.filter(id__gte=begin)
        if wanted.until is not None:
            rows = rows.filter(id__lte=wanted.until)
        return rows if end is None else rows.filter(id__lt=end)


class Selecting(Finding, Operations):
    """Changes some of the jobs that were found, those that still meet the criteria."""

    def retry_among(self, job_ids: Sequence[UUID], wanted: Criteria) -> Retried:
        """Retry them; see ``retry``."""
        return self.retry(job_ids, among=condition(wanted))

    def cancel_among(self, job_ids: Sequence[UUID], wanted: Criteria) -> CancelAnswer:
        """Cancel those that are not asked to stop already; see ``cancel``."""
        return self.cancel(job_ids, among=condition(wanted) & Q(cancel_requested=False))

    def delete(self, job_ids: Sequence[UUID], wanted: Criteria) -> int:
        """Delete those that have finished; return how many. Locked rows are skipped.

        Rows of the user's models that point at a job follow their ``on_delete``.
        """
        return self._after_deadlock(partial(self._delete, job_ids, wanted))

    def finished_among(self, job_ids: Sequence[UUID], wanted: Criteria) -> list[EndedJob]:
        """Return those that have finished, for ``delete_ended``."""
        rows = self._jobs.filter(condition(wanted), id__in=job_ids, state__in=FINISHED)
        return ended_among(rows.order_by("id").values_list(*READ))

    def _delete(self, job_ids: Sequence[UUID], wanted: Criteria) -> int:
        with self._write():
            chosen = self._jobs.filter(condition(wanted), id__in=job_ids, state__in=FINISHED)
            locked = self._locked_to_delete(chosen).order_by("id").only("id", "needed", "state")
            kept = self._kept([row.id for row in locked if row.state == State.SUCCEEDED])
            rows = [row for row in locked if row.id not in kept]
            gone = [row.id for row in rows]
            self._deleting({row.id: row.state for row in rows if row.needed})
            _all, by_model = self._jobs.filter(id__in=gone, state__in=FINISHED).delete()
            self.delete_notes(gone)
            return by_model.get(Job._meta.label, 0)

    def limited_tasks(self, job_ids: Sequence[UUID]) -> list[str]:
        """Return the paths of the tasks of those jobs that have a limit key."""
        limited = self._jobs.filter(id__in=job_ids, limit_key__isnull=False)
        return sorted(limited.values_list("task_path", flat=True).distinct())

    def move(
        self,
        job_ids: Sequence[UUID],
        wanted: Criteria,
        *,
        queue: str,
        in_line: Collection[str] = (),
    ) -> int:
        """Put jobs that no worker has into another queue; return how many were elsewhere.

        Messages for brokers stay where they are: their queue says which broker it is. Jobs with
        a limit key of the tasks ``in_line`` stay as well: those of a key are in one queue.
        """
        others = ~Q(queue=queue) & ~Q(queue__startswith=QUEUE_PREFIX) & ~_of(in_line)
        return self._after_deadlock(
            partial(self._change, job_ids, condition(wanted) & others, {"queue": queue})
        )

    def reprioritise(
        self,
        job_ids: Sequence[UUID],
        wanted: Criteria,
        *,
        priority: int,
        in_line: Collection[str] = (),
    ) -> int:
        """Give jobs that no worker has another priority; return how many had a different one.

        Jobs with a limit key of the tasks ``in_line`` keep theirs: those of a key have the same.
        """
        others = condition(wanted) & ~Q(priority=priority) & ~_of(in_line)
        return self._after_deadlock(
            partial(self._change, job_ids, others, {"priority": priority})
        )

    def make_due(
        self, job_ids: Sequence[UUID], wanted: Criteria, *, in_line: Collection[str] = ()
    ) -> int:
        """Make ready jobs due that are for later; return how many were.

        Jobs with a limit key of the tasks ``in_line`` stay: their order is that of ``run_after``.
        """
        later = condition(wanted) & Q(state=State.READY, run_after__gt=DatabaseNow())
        values = {"run_after": DatabaseNow()}
        return self._after_deadlock(partial(self._change, job_ids, later & ~_of(in_line), values))

    def _leave_lines(self, job_ids: Sequence[UUID]) -> None:
        """Let locked jobs be claimed by the way of all: what that meets enters the right line."""
        if job_ids:
            self._jobs.filter(id__in=job_ids, state=State.READY).update(
                claimable=True, waits_for=0, blocked=None, line=None
            )

    def _change(self, job_ids: Sequence[UUID], which: Q, values: dict[str, Any]) -> int:
        with self._write():
            chosen = self._jobs.filter(which, id__in=job_ids, state__in=NOT_STARTED)
            rows = self._locked(chosen).order_by("id").only("id", "state", "queue", "blocked")
            locked = {row.id: row for row in rows}
            same = self._jobs.filter(id__in=list(locked), state__in=NOT_STARTED)
            changed = same.update(**values)
            if "queue" in values:
                in_turn = [row for row in locked.values() if row.blocked == Blocked.FAIR]
                self._leave_lines([row.id for row in in_turn])
            ready = [row for row in locked.values() if row.state == State.READY]
            self._wake({values.get("queue", row.queue) for row in ready})
            return changed
