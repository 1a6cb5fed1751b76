"""Groups whose jobs are deleted: their numbers go on, and at last they are deleted themselves."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from django.db.models import Exists, F, OuterRef, QuerySet

from aftercommit.models import Group
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.members import Members
from aftercommit.values import NO_TIME


class DeletedMembers(Members):
    """Counts deleted jobs in the rows of their groups, and deletes groups."""

    def _deleting(self, states: Mapping[UUID, str]) -> None:
        """Do what belongs to the deletion of ended jobs that are ``needed``, before it.

        Each deletion by age, or by an operator, calls this in its transaction. Jobs of groups
        are counted in the rows of their groups from now on.
        """
        if not states:
            return
        rows = self._members.filter(job_id__in=list(states)).values_list("job_id", "group_id")
        found: defaultdict[UUID, Counter[str]] = defaultdict(Counter)
        members = list(rows)
        groups = self._groups_table.filter(id__in={group_id for _job_id, group_id in members})
        finals = set(groups.values_list("final_id", flat=True))
        for job_id, group_id in members:
            if job_id not in finals:
                found[group_id][states[job_id]] += 1
        for group_id, ended in sorted(found.items()):
            self._groups_table.filter(id=group_id).update(
                **{f"pruned_{state}": F(f"pruned_{state}") + ended[state] for state in ended}
            )
        self._members.filter(job_id__in=[job_id for job_id, _group in members]).delete()

    def prune_groups(
        self,
        *,
        after: UUID,
        older_than: timedelta,
        limit: int,
        made_before: timedelta = NO_TIME,
    ) -> UUID | None:
        """Delete groups among the next ``limit`` whose jobs have all been gone for a while.

        Returns the last id that was looked at; None at the end of the table. A group whose last
        row of a job is gone is marked first, and deleted when that is ``older_than`` ago and it
        was made ``made_before`` ago: a new one may get its jobs yet.
        """
        rows = list(self._groups_table.filter(id__gt=after).order_by("id")[:limit])
        gone = [row.id for row in rows if row.emptied_at is None and self._is_empty(row.id)]
        for group_id in gone:
            self._mark_empty(group_id)
        over = self._groups_table.filter(
            ~Exists(self._members.filter(group_id=OuterRef("id"))),
            id__in=[row.id for row in rows],
            emptied_at__lt=ago(older_than),
            created_at__lt=ago(made_before),
        )
        with self._write():
            ids = [row.id for row in self._skipping_locked(over).only("id")]
            self._groups_table.filter(id__in=ids).delete()
        return rows[-1].id if len(rows) == limit else None

    def _is_empty(self, group_id: UUID) -> bool:
        members = self._members.filter(group_id=group_id)
        return not self._jobs.filter(id__in=members.values("job_id")).exists()

    def _mark_empty(self, group_id: UUID) -> None:
        """Count what is left of a group's members, whose jobs were not deleted by our ways."""
        with self._write():
            rows = self._groups_table.filter(id=group_id, emptied_at=None)
            if not list(rows.select_for_update().values_list("id")):
                return
            if not self._is_empty(group_id):  # a job was added before the lock
                return
            gone = self._members_of(group_id).count()
            self._members.filter(group_id=group_id).delete()
            rows.update(emptied_at=DatabaseNow(), pruned_succeeded=F("pruned_succeeded") + gone)

    def _skipping_locked(self, rows: QuerySet[Group]) -> QuerySet[Group]:
        skips = self.connection.features.has_select_for_update_skip_locked
        return rows.select_for_update(skip_locked=skips)
