"""Reads the lines of limit keys."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import LIVE, Blocked, Job, State
from aftercommit.store.claim import Claims, marks
from aftercommit.store.columns import id_from
from aftercommit.store.limits.lines import Known, Line, Waiting
from aftercommit.values import UNLIMITED, Limit

LOOKED_AT = 100  # due jobs at once, and parked ones of a key

# {slots} and {lines}: the name of the index, where the planner has to be told.
KNOWN = """
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job {slots}
WHERE limit_key IN ({keys}) AND slot IS NOT NULL
UNION ALL
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job {lines}
WHERE limit_key IN ({keys}) AND blocked IN (0, 2)
"""
CANDIDATES = """
UNION ALL
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job
WHERE id IN ({ids})
"""
# By the highest priority first: no column of the index is descending, see PartialIndex.
FIRST_PARKED = """
SELECT * FROM (
    SELECT {columns} FROM aftercommit_job {lines}
    WHERE blocked = 1 AND limit_key = %s AND priority = (
        SELECT MAX(priority) FROM aftercommit_job {lines} WHERE blocked = 1 AND limit_key = %s
    )
    ORDER BY run_after, id LIMIT {limit}
) AS line{number}
"""
# Jumps from key to key.
PARKED_KEYS = """
WITH RECURSIVE line (limit_key, number) AS (
    SELECT MIN(limit_key), 1 FROM aftercommit_job {lines} WHERE blocked = 1 AND limit_key > %s
    UNION ALL
    SELECT (
        SELECT MIN(job.limit_key) FROM aftercommit_job AS job {lines}
        WHERE job.blocked = 1 AND job.limit_key > line.limit_key
    ), number + 1
    FROM line WHERE limit_key IS NOT NULL AND number < {most}
)
SELECT limit_key, (
    SELECT task_path FROM aftercommit_job AS job {lines}
    WHERE job.blocked = 1 AND job.limit_key = line.limit_key LIMIT 1
)
FROM line WHERE limit_key IS NOT NULL
"""


class Lines(Claims):
    """Reads who has to do with a key; what is read while the key is locked stays true."""

    slots_index = lines_index = ""
    parked_keys_sql = PARKED_KEYS
    waiting_columns = "id, limit_key, task_path, queue, state, priority, run_after"

    @abstractmethod
    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement with ``%s`` placeholders."""

    def parked_keys(self, *, after: str = "", most: int) -> list[tuple[str, str]]:
        """Return the first keys behind ``after`` with parked jobs, and the path of their task."""
        sql = self.parked_keys_sql.format(lines=self.lines_index, most=most)
        return [(key, path) for key, path in self._rows(sql, [after])]

    def _lines(
        self, limits: Mapping[str, Limit | None], candidates: Sequence[Waiting]
    ) -> tuple[dict[str, Line], list[Waiting]]:
        """Return the line of each locked key, and the candidates that are still claimable.

        A limit is None if the claimer does not know the task.
        """
        lines = {
            key: Line(limit or UNLIMITED, known=limit is not None)
            for key, limit in limits.items()
        }
        keys = list(lines)
        sql = KNOWN.format(keys=marks(keys), slots=self.slots_index, lines=self.lines_index)
        given: list[Any] = [*keys, *keys]
        if candidates:
            sql += CANDIDATES.format(ids=marks(candidates))
            given += [self._id(one.job_id) for one in candidates]
        claimable = set()
        for row in self._rows(sql, given):
            job = Known(id_from(row[0]), *row[1:])
            lines[job.limit_key].note(job)
            if job.claimable and job.state == State.READY:
                claimable.add(job.job_id)
        over = [job_id for line in lines.values() for job_id in line.over]
        if over:
            self._unmark(self._jobs.filter(id__in=over).exclude(state__in=LIVE))
        return lines, [one for one in candidates if one.job_id in claimable]

    def _first_parked(self, rooms: Mapping[str, int]) -> dict[str, list[Waiting]]:
        """Return the first parked jobs of each key, as many as there is room for."""
        found: dict[str, list[Waiting]] = {}
        if not rooms:
            return found
        sql = " UNION ALL ".join(
            FIRST_PARKED.format(
                columns=self.waiting_columns,
                lines=self.lines_index,
                limit=min(room, LOOKED_AT),
                number=number,
            )
            for number, room in enumerate(rooms.values())
        )
        gone = []
        for row in self._rows(sql, [key for key in rooms for _twice in range(2)]):
            one = self._as_waiting(row)
            if one.state == State.READY:
                found.setdefault(one.limit_key, []).append(one)
            else:  # claimed or ended by a program that does not know lines
                gone.append(one.job_id)
        if gone:
            parked = self._jobs.filter(id__in=gone, blocked=Blocked.LIMIT)
            # waits_for as well: a retry by such a program leaves the job ready for everybody.
            self._unmark(parked.exclude(state=State.READY), waits_for=0)
        return found

    def _unmark(self, rows: QuerySet[Job], **changes: int) -> None:
        """Take jobs out of their lines, but for locked ones: the next look finds those again."""
        free = list(self._locked(rows, skip=True).values_list("id", flat=True))
        self._jobs.filter(id__in=free).update(blocked=None, **changes)

    def _as_waiting(self, row: Sequence[Any]) -> Waiting:
        job_id, key, path, queue, state, priority, run_after = row
        identity = id_from(job_id)
        place = (-priority, run_after, identity)
        return Waiting(identity, key, path, queue, state, place)

    def _id(self, job_id: UUID) -> Any:
        return self._jobs.model._meta.pk.get_db_prep_value(job_id, self.connection)
