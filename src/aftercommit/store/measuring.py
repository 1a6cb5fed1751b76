"""How many jobs wait, for how long, and how fast they end: cheap enough to ask every second.

Nothing is counted while jobs are enqueued and run, so each number is read when it is asked for,
from a bounded number of rows: the claimable index is walked from group to group, a count in a
group stops at a limit, and what happened lately is read from the rows where it must be.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count

from aftercommit.models import Job
from aftercommit.models.readable import bounded
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import id_from, moment_from
from aftercommit.store.groups import TYPES, Groups
from aftercommit.store.reading import Reading
from aftercommit.values import Group, Head

GROUPS_AT_ONCE = 50  # in one statement
MOST_WALKS = 20  # queues whose latest ends are looked for
ONE_WALK = 1000  # rows of each
OF_GROUP = (
    "{jobs} AND job.backend = %s AND job.queue = %s AND job.priority = %s"  # all of the index
)
IS_DUE = "AND job.run_after <= (SELECT {now})"
HEAD = "ORDER BY job.run_after, job.id LIMIT 1"
# In the order of the index, or PostgreSQL would read the table up to so many claimable jobs.
WAITING = """
SELECT {number},
    (SELECT COUNT(*) FROM (SELECT 1 FROM {group} {is_due} {first}) AS due),
    (SELECT COUNT(*) FROM (SELECT 1 FROM {group} {first}) AS ready),
    (SELECT job.id FROM {group} {head})
"""
FIRST = "ORDER BY job.run_after LIMIT {most}"
BY_TASK = """
SELECT task_path, COUNT(*), SUM(is_due) FROM (
    SELECT job.task_path, CASE WHEN job.run_after <= (SELECT {now}) THEN 1 ELSE 0 END AS is_due
    FROM {jobs} ORDER BY job.backend LIMIT {most}
) AS counted GROUP BY task_path
"""
# Of all queues together, in the order of the index.
CLAIMABLE = """
SELECT COUNT(*) FROM (SELECT 1 FROM {jobs} ORDER BY job.backend LIMIT {most}) AS counted
"""
# Of all groups in one statement, where a subquery may name the head of the group: to plan a
# thousand parts of a UNION takes longer than to carry them out.
WITH_DEPTHS = "head.backend, head.queue, head.priority, {due}, {ready}, head.id, {moment}"
OF_HEAD = (
    "{jobs} AND job.backend = head.backend AND job.queue = head.queue "
    "AND job.priority = head.priority"
)
# A line for each place of the walks; ``finished_at`` has no index, so the walk is by the ids.
LATEST = """
SELECT {number}, id, state, {moment} FROM (
    SELECT id, state, finished_at FROM aftercommit_job {before} ORDER BY id DESC LIMIT {walk}
) AS latest{number} WHERE finished_at >= %s
"""


class Waiting(NamedTuple):
    """The claimable jobs of one backend, queue and priority."""

    group: Group
    due: int
    ready: int  # those for later included
    first: UUID
    run_after: datetime  # of the first one
    now: datetime  # by the database's clock

    @property
    def age(self) -> timedelta | None:
        """For how long the first one has been due."""
        return self.now - self.run_after if self.run_after <= self.now else None


class TaskDepth(NamedTuple):
    """The claimable jobs of one task among the first ones of the index."""

    task_path: str
    ready: int
    due: int


class End(NamedTuple):
    """A job that has ended lately."""

    job_id: UUID
    state: str
    finished_at: datetime


class Measuring(Reading, Groups):
    """Reads what a probe asks for."""

    claimable_sql: str  # what follows FROM
    depths_sql: tuple[str, str, str] | None = None  # due, ready, and what is joined for them

    def waiting(self, *, most: int) -> list[Waiting]:
        """Return the groups of claimable jobs; no count goes beyond ``most``."""
        if self.depths_sql is not None:
            return self._depths(self.depths_sql, most)
        groups = self._heads(self.heads_sql)
        found = []
        for start in range(0, len(groups), GROUPS_AT_ONCE):
            found += self._waiting(groups[start : start + GROUPS_AT_ONCE], most)
        return found

    def _depths(self, depths: tuple[str, str, str], most: int) -> list[Waiting]:
        now = self.now_sql.removeprefix("SELECT ")
        words = {"group": OF_HEAD.format(jobs=self.claimable_sql), "now": now, "most": most}
        due, ready, join = (one.format(**words) for one in depths)
        moment = bounded(self.head_due_sql, self.connection.vendor)
        columns = f"{WITH_DEPTHS.format(due=due, ready=ready, moment=moment)}, {now}"
        sql = self.heads_sql.replace(f"SELECT {self.heads_columns}", f"SELECT {columns}")
        rows = [
            row for row in self._read(f"{sql} {join}", []) if tuple(map(type, row[:3])) == TYPES
        ]
        return [
            Waiting(
                Group(backend, queue, priority),
                due,
                ready,
                id_from(first),
                moment_from(run_after),
                moment_from(at),
            )
            for backend, queue, priority, due, ready, first, run_after, at in rows
        ]

    def heads(self) -> list[Head]:
        """Return the first job of each group, by one statement, without a count."""
        return self._heads_of("")

    def _waiting(self, groups: Sequence[Group], most: int) -> list[Waiting]:
        if not groups:
            return []
        now = self.now_sql.removeprefix("SELECT ")
        words = {
            "group": OF_GROUP.format(jobs=self.claimable_sql),
            "is_due": IS_DUE.format(now=now),
            "head": HEAD,
            "first": FIRST.format(most=most),
        }
        sql = " UNION ALL ".join(
            WAITING.format(number=number, **words) for number in range(len(groups))
        )
        given = [value for group in groups for value in [*group] * 3]
        counted = [row for row in self._read(sql, given) if row[3] is not None]
        # By the ORM, which can read any moment that a database can store.
        first = self._jobs.filter(id__in=[id_from(row[3]) for row in counted])
        rows = {row.id: row for row in first.only("run_after").annotate(now=DatabaseNow())}
        return [
            Waiting(groups[number], due, ready, job_id, row.run_after, row.now)
            for number, due, ready, given_id in counted
            if (row := rows.get(job_id := id_from(given_id))) is not None  # else it is gone
        ]

    def may_be_claimed(self, *, most: int) -> list[int]:
        """Return how many jobs may be claimed, now or later, by each index that has them.

        No count goes beyond ``most``.
        """
        sql = CLAIMABLE.format(jobs=self.claimable_sql, most=most)
        return [int(self._read(sql, [])[0][0])]

    def waiting_by_task(self, *, most: int) -> list[TaskDepth]:
        """Return the tasks of the first ``most`` claimable jobs in the order of the index."""
        now = self.now_sql.removeprefix("SELECT ")
        sql = BY_TASK.format(now=now, jobs=self.claimable_sql, most=most)
        return [TaskDepth(path, ready, int(due)) for path, ready, due in self._read(sql, [])]

    def running_by(self, column: str) -> dict[str, int]:
        """Return how many jobs are running, by a column of theirs."""
        rows = self._running().values_list(column).annotate(number=Count("id"))
        return dict(rows.order_by(column))

    def oldest_due_age(self, queue: str | None = None) -> timedelta | None:
        """Return how long the oldest due job has been waiting, or None."""
        heads = [one for one in self.heads() if queue in (None, one.group.queue)]
        return max((one.age for one in heads if one.age is not None), default=None)

    def recent_waits(self, *, within: timedelta) -> list[timedelta]:
        """Return how long jobs that were claimed lately had been due, from a sample of them.

        The sample: what is running, and the jobs that were enqueued last.
        """
        since = self._clock() - within
        names = ("id", "run_after", "enqueued_at", "claimed_at")
        running = self._running().only(*names)[:ONE_WALK]
        latest = self._jobs.order_by("-id").only(*names)[:ONE_WALK]
        rows = {row.id: row for row in (*running, *latest)}
        return sorted(
            wait
            for row in rows.values()
            if row.claimed_at is not None and row.claimed_at >= since
            # A job that is to be retried is due after its latest claim.
            if (wait := row.claimed_at - max(row.run_after, row.enqueued_at)) >= timedelta(0)
        )

    def recent_ends(self, *, within: timedelta) -> tuple[list[End], timedelta]:
        """Return jobs that have ended lately, and within which span these are all that did.

        Jobs end about in the order of their ids: those that did so last are before the first
        due one of each queue, and at the end of the table. Others, such as jobs that were
        enqueued long ago for a moment of today, are missed.
        """
        now = self._clock()
        places = [None, *(one.first for one in self._due_fronts(MOST_WALKS))]
        found: dict[UUID, End] = {}
        since = now - within
        for ends in self._latest(places, since):
            found |= {one.job_id: one for one in ends}
            if len(ends) == ONE_WALK:  # there are more behind
                since = max(since, min(one.finished_at for one in ends))
        return [one for one in found.values() if one.finished_at >= since], now - since

    def _due_fronts(self, most: int) -> list[Waiting]:
        """Return some groups that have due jobs, with the first of each."""
        return self._waiting([one.group for one in self.due_heads()[:most]], 1)

    def _latest(self, places: Sequence[UUID | None], since: datetime) -> list[list[End]]:
        """Return what has ended since then, among the jobs before each place; None: of all."""
        fields = {name: Job._meta.get_field(name) for name in ("id", "finished_at")}
        moment = bounded("finished_at", self.connection.vendor)
        parts, given = [], []
        for number, place in enumerate(places):
            before = "" if place is None else "WHERE id < %s"
            parts.append(
                LATEST.format(number=number, before=before, walk=ONE_WALK, moment=moment)
            )
            given += [] if place is None else [self._value(fields["id"], place)]
            given.append(self._value(fields["finished_at"], since))
        found: list[list[End]] = [[] for _place in places]
        for number, job_id, state, finished_at in self._read(" UNION ALL ".join(parts), given):
            found[number].append(End(id_from(job_id), str(state), moment_from(finished_at)))
        return found

    def _value(self, field: Any, value: Any) -> Any:
        return field.get_db_prep_value(value, self.connection)

    def _read(self, sql: str, given: Sequence[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, given)
            return list(cursor.fetchall())
