"""Groups and their members: which jobs belong together, counted from the rows of the jobs.

Nothing is written to a group when one of its jobs ends: its row would be locked by each of
10,000 ends. It is written when ended jobs are deleted, see ``DeletedMembers``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.errors import GroupDoesNotExist, GroupHasEnded
from aftercommit.models import FINISHED, LIVE, Group, Job, Member, State
from aftercommit.models.readable import bounded
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import moment_from
from aftercommit.store.table import Table

ONE_READ = 500
ROWS_AT_ONCE = 5000  # of members: below any limit of parameters, and of a packet
# One statement, so that a job that is deleted meanwhile is counted once: by its row, or by the
# group's.
COUNTS = """
SELECT whole.pruned_succeeded, whole.pruned_failed, whole.pruned_cancelled,
       job.state, COUNT(member.job_id), MIN({claimed_at}), MAX({finished_at})
FROM aftercommit_group AS whole
LEFT JOIN aftercommit_member AS member ON member.group_id = whole.id
    AND (whole.final_id IS NULL OR member.job_id <> whole.final_id)
LEFT JOIN aftercommit_job AS job ON job.id = member.job_id
WHERE whole.id = %s
GROUP BY whole.id, whole.pruned_succeeded, whole.pruned_failed, whole.pruned_cancelled, job.state
"""
# Those who add to a group do not wait for each other, nor for whoever counts deleted jobs, but
# cancel() and they do. SQLite has one writer at a time.
SHARED = {"postgresql": " FOR KEY SHARE", "mysql": " LOCK IN SHARE MODE", "sqlite": ""}


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupCounts:
    """How many jobs of a group there are in each state.

    Deleted jobs are counted by the deletion. One whose row is gone otherwise, by SQL or by a
    program of an earlier version, counts as succeeded.
    """

    ready: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    timed: int = 0  # ended runs whose rows are there
    first_claimed_at: datetime | None = None  # of these
    last_finished_at: datetime | None = None

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.ready + self.running

    @property
    def done(self) -> int:
        """Jobs that have ended, in whatever state."""
        return self.succeeded + self.failed + self.cancelled


class Members(Table):
    """Reads and writes groups. Jobs themselves are inserted and cancelled elsewhere."""

    # ---- reading ----------------------------------------------------------------

    def group(self, group_id: UUID) -> Group | None:
        """Return a group, or None."""
        return self._groups_table.filter(id=group_id).first()

    def group_of(self, job_id: UUID) -> Group | None:
        """Return the group that a job belongs to, also as its last job; None if there is none."""
        found = self._members.filter(job_id=job_id).values_list("group_id", flat=True).first()
        return None if found is None else self.group(found)

    def named_groups(self, name: str, *, limit: int) -> list[Group]:
        """Return the groups of a name, the newest first."""
        found = self._groups_table.filter(name=name).order_by("-created_at", "-id")
        return list(found[:limit])

    def latest_groups(self, *, limit: int) -> list[Group]:
        """Return the groups that were made last, the newest first."""
        return list(self._groups_table.order_by("-id")[:limit])

    def group_counts(self, group_id: UUID) -> GroupCounts:
        """Count the jobs of a group by their states, without its last job."""
        vendor = self.connection.vendor
        columns = {one: bounded(f"job.{one}", vendor) for one in ("claimed_at", "finished_at")}
        with self.connection.cursor() as cursor:
            cursor.execute(COUNTS.format(**columns), [self._prepared(group_id)])
            rows = cursor.fetchall()
        return _counts(rows)

    def some_of_group(self, group_id: UUID, *, limit: int) -> list[UUID]:
        """Return the first jobs of a group in the order in which they were enqueued."""
        members = self._members_of(group_id).order_by("job_id")
        return list(members.values_list("job_id", flat=True)[:limit])

    def jobs_of_group(self, group_id: UUID) -> Iterator[list[Job]]:
        """Yield the jobs of a group in the order in which they were enqueued, some at a time."""
        members = self._members_of(group_id).order_by("job_id")
        rest = members
        while ids := list(rest.values_list("job_id", flat=True)[:ONE_READ]):
            yield list(self._jobs.filter(id__in=ids).order_by("id"))
            rest = members.filter(job_id__gt=ids[-1])

    def live_member(self, group_id: UUID, *, number: int = 0) -> UUID | None:
        """Return one of a group's jobs that have not ended: the one of this number, or the last.

        None if all have ended.
        """
        rows = self._live_members(group_id).order_by("-id").only("id")
        found = list(rows[number : number + 1]) or list(rows[:1])
        return found[0].id if found else None

    def live_members(
        self, group_id: UUID, *, limit: int, after: UUID | None = None, state: str = ""
    ) -> list[UUID]:
        """Return the next jobs of a group that have not ended; ``state``: those in this one."""
        rows = self._live_members(group_id)
        rows = rows.filter(state=state) if state else rows
        rows = rows if after is None else rows.filter(id__gt=after)
        return [row.id for row in rows.order_by("id").only("id")[:limit]]

    def latest_success(self, group_id: UUID) -> Job | None:
        """Return the job of a group that has succeeded last."""
        members = self._members.filter(group_id=group_id).values("job_id")
        rows = self._jobs.filter(id__in=members, state=State.SUCCEEDED)
        return rows.order_by("finished_at", "id").last()

    def group_errors(self, group_id: UUID) -> tuple[int, int]:
        """Return how many jobs of a group have had failed runs; and of those that are live."""
        members = self._members.filter(group_id=group_id).values("job_id")
        rows = self._jobs.filter(id__in=members).exclude(errors="[]")
        return rows.count(), rows.filter(state__in=LIVE).count()

    def last_of(self, group_id: UUID) -> UUID | None:
        """Return the job that waits for all others of a group, if it has one."""
        rows = self._groups_table.filter(id=group_id)
        return rows.values_list("final_id", flat=True).first()

    # ---- writing ----------------------------------------------------------------

    def insert_group(
        self,
        group_id: UUID,
        *,
        name: str,
        description: str = "",
        meta: Mapping[str, Any],
        final_id: UUID | None = None,
    ) -> Group:
        """Insert a group in the caller's transaction; its members are added next."""
        return self._groups_table.create(
            id=group_id,
            name=name,
            description=description,
            meta=dict(meta),
            final_id=final_id,
            created_at=self._clock(),
        )

    def add_members(self, group_id: UUID, job_ids: Sequence[UUID]) -> None:
        """Add jobs that were enqueued as ``needed`` in the same transaction; or the last job."""
        rows = [Member(job_id=job_id, group_id=group_id) for job_id in job_ids]
        self._members.bulk_create(rows, batch_size=ROWS_AT_ONCE)

    def adopt(self, group_id: UUID, job_ids: Sequence[UUID]) -> None:
        """Add jobs that were enqueued in the same transaction, and not as ``needed``."""
        self.add_members(group_id, job_ids)
        for start in range(0, len(job_ids), ONE_READ):
            some = job_ids[start : start + ONE_READ]
            self._jobs.filter(id__in=some).update(needed=True)

    def had_failed(self, runs: Mapping[UUID, int]) -> None:
        """Let new jobs count failed runs of an earlier life."""
        for job_id, number in runs.items():
            self._jobs.filter(id=job_id, state=State.READY).update(attempts=number)

    def hold_open(self, group_id: UUID, *, untouched: bool = False) -> Group:
        """Let the caller add members until its transaction ends; return the group.

        Raises ``GroupHasEnded`` if all of its jobs have ended, or it is cancelled;
        ``untouched``: also if one has ended. Nobody cancels it before the transaction ends.
        """
        self._share(group_id)
        found = self.group(group_id)
        if found is None:
            raise GroupDoesNotExist(group=str(group_id))
        if found.cancelled_at is not None:
            raise GroupHasEnded(group=str(found), why="it was cancelled")
        counts = self.group_counts(group_id)
        if counts.done and not counts.left and not self._last_has_time(found):
            raise GroupHasEnded(group=str(found), why="all of its jobs have ended")
        if untouched and counts.done:
            raise GroupHasEnded(group=str(found), why="one of its jobs has ended already")
        if found.emptied_at is not None:  # noticed between the two statements of _share()
            self._not_empty(group_id)
        return found

    def _share(self, group_id: UUID) -> None:
        """Lock a group against its deletion, with others who add to it.

        One that was found empty is written first: two who hold a shared lock, and would then
        both write, are a deadlock on MySQL and MariaDB.
        """
        if self._groups_table.filter(id=group_id, emptied_at__isnull=False).exists():
            self._not_empty(group_id)
        with self.connection.cursor() as cursor:
            lock = SHARED[self.connection.vendor]
            sql = f"SELECT id FROM aftercommit_group WHERE id = %s{lock}"  # noqa: S608 - constants
            cursor.execute(sql, [self._prepared(group_id)])
            cursor.fetchall()

    def _not_empty(self, group_id: UUID) -> None:
        """Let a group count as one with jobs again; it is deleted a span after these are gone."""
        self._groups_table.filter(id=group_id).update(emptied_at=None)

    def _last_has_time(self, group: Group) -> bool:
        """Return whether the last job has not begun: then it can wait for others as well."""
        return self._jobs.filter(id=group.final_id, state=State.READY, attempts=0).exists()

    def set_last(self, group_id: UUID, job_id: UUID) -> bool:
        """Let a job be the last one of a group that has none; False if it has one."""
        with self._write():
            changed = self._groups_table.filter(id=group_id, final_id=None).update(
                final_id=job_id, emptied_at=None
            )
            if changed and not self._members.filter(job_id=job_id).exists():
                self.add_members(group_id, [job_id])
            return bool(changed)

    def members_but_last(self, group_id: UUID) -> list[UUID]:
        """Return the ids of the jobs of a group, without its last one."""
        return list(self._members_of(group_id).values_list("job_id", flat=True))

    def mark_cancelled(self, group_id: UUID) -> None:
        """Let nobody add members any more; waits for transactions that have done so."""
        with self._write():
            rows = self._groups_table.filter(id=group_id)
            list(rows.select_for_update().values_list("id"))
            rows.filter(cancelled_at=None).update(cancelled_at=DatabaseNow())

    # ---- tables -----------------------------------------------------------------

    def _members_of(self, group_id: UUID) -> QuerySet[Member]:
        """Return the members without the last job, which is one to be found by its id."""
        last = self._groups_table.filter(id=group_id, final_id__isnull=False)
        return self._members.filter(group_id=group_id).exclude(job_id__in=last.values("final_id"))

    def _live_members(self, group_id: UUID) -> QuerySet[Job]:
        members = self._members_of(group_id)
        return self._jobs.filter(id__in=members.values("job_id"), state__in=LIVE)

    @property
    def _groups_table(self) -> QuerySet[Group]:
        return Group.objects.using(self.alias)

    @property
    def _members(self) -> QuerySet[Member]:
        return Member.objects.using(self.alias)

    def _prepared(self, value: UUID) -> Any:
        return Group._meta.pk.get_db_prep_value(value, self.connection)


def _counts(rows: Sequence[Sequence[Any]]) -> GroupCounts:
    """Return the counts of a group from the rows of ``COUNTS``; none if it is not there."""
    found: Counter[str] = Counter()
    if rows:
        found.update(dict(zip(FINISHED, rows[0][:3], strict=True)))
    begins, ends, timed = [], [], 0
    for *_pruned_jobs, state, number, claimed_at, finished_at in rows:
        found[State.SUCCEEDED if state is None else state] += number
        if claimed_at is not None and finished_at is not None and state != State.CANCELLED:
            begins.append(moment_from(claimed_at))
            ends.append(moment_from(finished_at))
            timed += number
    return GroupCounts(
        **{state: found[state] for state in State.values},
        timed=timed,
        first_claimed_at=min(begins, default=None),
        last_finished_at=max(ends, default=None),
    )
