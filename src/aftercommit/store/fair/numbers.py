"""Shows jobs in fair lines as what they are: due, and waiting for their turn."""

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import Blocked, Job, State
from aftercommit.options.fair import BEHIND, FIRST, range_of
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import id_from
from aftercommit.store.fair.reading import FairReading, Part
from aftercommit.store.measuring import Measuring, TaskDepth, Waiting
from aftercommit.store.reading import MOST_LOOKED_AT
from aftercommit.values import Group, Head

MOST_PLACES = 1000  # keys and priorities of which the first job is looked at
COUNTED = """
SELECT COUNT(*) FROM (
    SELECT 1 FROM aftercommit_job {index} WHERE line > %s AND line < %s ORDER BY line LIMIT {most}
) AS counted
"""
BY_TASK = """
SELECT task_path, COUNT(*) FROM (
    SELECT task_path FROM aftercommit_job {index}
    WHERE line > %s AND line < %s ORDER BY line LIMIT {most}
) AS counted GROUP BY task_path
"""
# The first job of each key and priority, and the oldest of these: the index is in the order of
# time only behind them.
OLDEST = """
WITH RECURSIVE heads (id, number) AS (
    SELECT (
        SELECT id FROM aftercommit_job WHERE line > %s AND line < %s
        ORDER BY line, priority, run_after, id LIMIT 1
    ), 1
    UNION ALL
    SELECT COALESCE(
        (
            SELECT job.id FROM aftercommit_job AS job
            WHERE job.line = head.line AND job.priority > head.priority
            ORDER BY job.priority, job.run_after, job.id LIMIT 1
        ),
        (
            SELECT job.id FROM aftercommit_job AS job WHERE job.line > head.line AND job.line < %s
            ORDER BY job.line, job.priority, job.run_after, job.id LIMIT 1
        )
    ), number + 1
    FROM heads JOIN aftercommit_job AS head ON head.id = heads.id
    WHERE number < {most}
)
SELECT head.id FROM heads JOIN aftercommit_job AS head ON head.id = heads.id
ORDER BY head.run_after, head.id LIMIT 1
"""


class FairNumbers(FairReading, Measuring):
    """Adds the jobs in fair lines to what ``Reading`` and ``Measuring`` tell."""

    oldest_sql = OLDEST

    def queues(self) -> list[str]:
        """Return the names of the queues that have jobs to claim."""
        return sorted({*super().queues(), *(one.queue for one in self.fair_parts())})

    def queued_names(self) -> set[str]:
        """Return the names of the tasks of waiting jobs, of some thousands of them."""
        paths = self._in_lines().values_list("task_path", flat=True)
        return super().queued_names() | set(paths[:MOST_LOOKED_AT])

    def due(self, *, limit: int, **which: Any) -> list[UUID]:
        """Return up to ``limit`` due jobs, the most urgent first; see ``Reading.due``.

        Tenants take no turns in this order.
        """
        found = super().due(limit=limit, **which)
        in_lines = self._first_due(self._in_lines(), limit=limit, **which)
        if not in_lines:
            return found
        both = self._jobs.filter(id__in=[*found, *in_lines])
        return list(both.order_by("-priority", "run_after", "id").values_list("id", flat=True))[
            :limit
        ]

    def due_in(self, queue: str, *, backends: Sequence[str]) -> int:  # type: ignore[override]
        """Return how many jobs of these backends are due in a queue."""
        waiting = self._in_lines().filter(backend__in=backends, queue=queue)
        return super().due_in(queue, backends=backends) + waiting.count()

    def due_of(self, task_path: str) -> int:
        """Return how many jobs of a task are due and wait for nothing but their turn."""
        waiting = self._in_lines().filter(task_path=task_path)
        return super().due_of(task_path) + waiting.count()

    def waiting(self, *, most: int) -> list[Waiting]:
        """Return the groups of jobs that may be claimed; no count goes beyond ``most``."""
        parts = [self._waiting_in(part, most) for part in self.fair_parts()]
        return super().waiting(most=most) + [one for one in parts if one is not None]

    def may_be_claimed(self, *, most: int) -> list[int]:
        """Return how many jobs may be claimed, and how many are in lines; see ``Measuring``."""
        sql = COUNTED.format(index=self.fair_index, most=most)
        ((in_lines,),) = self._rows(sql, [FIRST, BEHIND])
        return [*super().may_be_claimed(most=most), int(in_lines)]

    def heads(self) -> list[Head]:
        """Return the first job of each group, and of the lines of each queue."""
        parts = [self._waiting_in(part, 1) for part in self.fair_parts()]
        found = [one for one in parts if one is not None]
        return super().heads() + [Head(one.group, one.run_after, one.now) for one in found]

    def _due_fronts(self, most: int) -> list[Waiting]:
        parts = [self._waiting_in(part, 1) for part in self.fair_parts()]
        due = [one for one in parts if one is not None and one.age is not None]
        return [*super()._due_fronts(most), *due][:most]

    def waiting_by_task(self, *, most: int) -> list[TaskDepth]:
        """Return the tasks of the first ``most`` jobs that may be claimed, and in lines."""
        sql = BY_TASK.format(index=self.fair_index, most=most)
        in_lines = Counter(dict(self._rows(sql, [FIRST, BEHIND])))
        found = super().waiting_by_task(most=most)
        paths = {one.task_path: one for one in found}
        nothing = TaskDepth("", 0, 0)
        for path, number in in_lines.items():
            known = paths.get(path, nothing)
            paths[path] = TaskDepth(path, known.ready + number, known.due + number)
        return list(paths.values())

    def _waiting_in(self, part: Part, most: int) -> Waiting | None:
        begin, end = range_of(part.backend, part.queue, gated=part.gated)
        sql = COUNTED.format(index=self.fair_index, most=most)
        ((number,),) = self._rows(sql, [begin, end])
        oldest = self._oldest(begin, end)
        rows = self._jobs.filter(id__in=[oldest] if oldest else []).only("priority", "run_after")
        row: Any = rows.annotate(now=DatabaseNow()).first()
        if row is None:  # claimed meanwhile
            return None
        group = Group(part.backend, part.queue, row.priority)
        return Waiting(group, number, number, row.id, row.run_after, row.now)

    def _oldest(self, begin: str, end: str) -> UUID | None:
        """Return the job that has waited for longest in these lines, of the first ones."""
        rows = self._rows(self.oldest_sql.format(most=MOST_PLACES), [begin, end, end])
        return id_from(rows[0][0]) if rows else None

    def _in_lines(self) -> QuerySet[Job]:
        every = self._jobs.filter(line__gt=FIRST, line__lt=BEHIND)
        return every.filter(blocked=Blocked.FAIR, state=State.READY)
