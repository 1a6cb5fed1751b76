"""Reads the lines of limit keys."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import LIVE, Blocked, Job, State
from aftercommit.store.claim import Claims, marks
from aftercommit.store.columns import id_from
from aftercommit.store.limits.lines import Known, Line, Waiting
from aftercommit.values import UNLIMITED, Limit

Value = TypeVar("Value")
MOST_PARKED = 1000  # jobs of a key that are let through at once
LINES_TOGETHER = 50  # of which the first jobs are read by one statement
IDS_TOGETHER = 500  # more are no lookup for MariaDB

# {slots} and {lines}: the name of the index, where the planner has to be told.
KNOWN = """
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job {slots}
WHERE limit_key IN ({keys}) AND slot IS NOT NULL
UNION ALL
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job {lines}
WHERE limit_key IN ({keys}) AND blocked IN (0, 2)
"""
CANDIDATES = """
SELECT id, limit_key, slot, blocked, state, claimable FROM aftercommit_job WHERE id IN ({ids})
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
ANY_PARKED = "SELECT 1 FROM aftercommit_job {lines} WHERE blocked = 1 LIMIT 1"
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


def in_parts(values: Sequence[Value], most: int) -> Iterator[Sequence[Value]]:
    """Yield the values, so many at a time."""
    for start in range(0, len(values), most):
        yield values[start : start + most]


class Lines(Claims):
    """Reads who has to do with a key; what is read while the key is locked stays true."""

    slots_index = lines_index = ""
    reads_alone = False  # nobody else writes, from the first look at due jobs on
    parked_keys_sql = PARKED_KEYS
    waiting_columns = "id, limit_key, task_path, queue, state, priority, run_after"

    @abstractmethod
    def _rows(self, sql: str, given: Sequence[Any]) -> list[Any]:
        """Return the rows of a statement with ``%s`` placeholders."""

    @abstractmethod
    def _with_parked(self, keys: Sequence[str]) -> list[str]:
        """Return those of these keys that have parked jobs."""

    def parked_keys(self, *, after: str = "", most: int) -> list[tuple[str, str]]:
        """Return the first keys behind ``after`` with parked jobs, and the path of their task."""
        sql = self.parked_keys_sql.format(lines=self.lines_index, most=most)
        return [(key, path) for key, path in self._rows(sql, [after])]

    def _any_parked(self) -> bool:
        """Return whether there is a parked job of any key."""
        return bool(self._rows(ANY_PARKED.format(lines=self.lines_index), []))

    def _lines(
        self, limits: Mapping[str, Limit | None], candidates: Sequence[Waiting]
    ) -> tuple[dict[str, Line], list[Waiting]]:
        """Return the line of each locked key, and the candidates that are still claimable.

        A limit is None if the claimer does not know the task.
        """
        if not limits:
            return {}, []
        lines = {
            key: Line(limit or UNLIMITED, known=limit is not None)
            for key, limit in limits.items()
        }
        claimable: dict[UUID | None, str] = {}
        may_have_changed = () if self.reads_alone else candidates
        for job in self._known(list(lines), [one.job_id for one in may_have_changed]):
            if job.limit_key in lines:  # a candidate may have another key by now
                lines[job.limit_key].note(job)
            if job.claimable and job.state == State.READY:
                claimable[job.job_id] = job.limit_key
        over = [job_id for line in lines.values() for job_id in line.over]
        if over:
            self._unmark(self._jobs.filter(id__in=over).exclude(state__in=LIVE))
        if self.reads_alone:
            return lines, list(candidates)
        return lines, [one for one in candidates if claimable.get(one.job_id) == one.limit_key]

    def _known(self, keys: Sequence[str], ids: Sequence[UUID]) -> Iterable[Known]:
        """Return what is neither parked nor new of these keys, and the named jobs."""
        sql = KNOWN.format(keys=marks(keys), slots=self.slots_index, lines=self.lines_index)
        rows = self._rows(sql, [*keys, *keys]) if keys else []
        as_stored = partial(Job._meta.pk.get_db_prep_value, connection=self.connection)
        for some in in_parts(ids, IDS_TOGETHER):
            sql = CANDIDATES.format(ids=marks(some))
            rows += self._rows(sql, list(map(as_stored, some)))
        for job_id, key, slot, *rest in rows:
            yield Known(id_from(job_id), key, () if slot is None else (slot,), *rest)

    def _first_parked(self, rooms: Mapping[str, int]) -> dict[str, list[Waiting]]:
        """Return the first parked jobs of each key, as many as there is room for."""
        found: dict[str, list[Waiting]] = {}
        gone = []
        few = {key: min(room, MOST_PARKED) for key, room in rooms.items()}
        for row in self._first_rows(few) if few else ():
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

    def _first_rows(self, rooms: Mapping[str, int]) -> list[Any]:
        """Return the ``waiting_columns`` of the first parked jobs."""
        rows = []
        for keys in in_parts(self._with_parked(list(rooms)), LINES_TOGETHER):
            sql = " UNION ALL ".join(
                FIRST_PARKED.format(
                    columns=self.waiting_columns,
                    lines=self.lines_index,
                    limit=rooms[key],
                    number=number,
                )
                for number, key in enumerate(keys)
            )
            rows += self._rows(sql, [key for key in keys for _twice in range(2)])
        return rows

    def _unmark(self, rows: QuerySet[Job], **changes: int) -> None:
        """Take jobs out of their lines, but for locked ones: the next look finds those again."""
        free = list(self._locked(rows, skip=True).values_list("id", flat=True))
        self._jobs.filter(id__in=free).update(blocked=None, **changes)

    def _as_waiting(self, row: Sequence[Any]) -> Waiting:
        job_id, key, path, queue, state, priority, run_after = row
        identity = id_from(job_id)
        place = (-priority, run_after, identity)
        return Waiting(identity, key, path, queue, state, place)
