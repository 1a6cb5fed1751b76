"""Rows of jobs on MySQL and MariaDB that nobody may delete before somebody's commit.

An entry of the index is locked, and not the row, which InnoDB does for a shared lock when the
index has all that is read. Whoever writes the end of a run locks the row, and changes no entry of
this index if the run has succeeded. A DELETE needs the entry, and so does a run that has failed.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from aftercommit.models import Dependency, Job, State
from aftercommit.store.claim import marks
from aftercommit.store.columns import id_from
from aftercommit.store.mysql.fair import MySQLFair

KEEP = """
SELECT id FROM aftercommit_job FORCE INDEX (aftercommit_job_unsuccessful)
WHERE unsuccessful = FALSE AND id IN ({ids})
LOCK IN SHARE MODE
"""
LOCK_TO_DELETE = """
SELECT id, token FROM aftercommit_job FORCE INDEX (aftercommit_job_unsuccessful)
WHERE unsuccessful = FALSE AND id IN ({ids}) AND state = 'running' AND needed IS NULL
ORDER BY id
FOR UPDATE SKIP LOCKED
"""
# Of rows that the caller has locked: those whose entry of the index nobody else has.
NOT_KEPT = """
SELECT id FROM aftercommit_job FORCE INDEX (aftercommit_job_unsuccessful)
WHERE unsuccessful = FALSE AND id IN ({ids})
ORDER BY id
FOR UPDATE SKIP LOCKED
"""


class MySQLKeptRows(MySQLFair):
    """Keeps rows, and finds out which are kept."""

    def _keep(self, job_ids: Sequence[UUID]) -> set[UUID]:
        return {id_from(row[0]) for row in self._for_ids(KEEP, job_ids)}

    def _kept(self, job_ids: Collection[UUID]) -> set[UUID]:
        free = {id_from(row[0]) for row in self._for_ids(NOT_KEPT, sorted(job_ids))}
        return set(job_ids).difference(free)

    def _lock_to_delete(self, job_ids: Sequence[UUID]) -> list[tuple[UUID, int]]:
        rows = self._for_ids(LOCK_TO_DELETE, job_ids)
        return [(id_from(job_id), token) for job_id, token in rows]

    def _delete_unless_needed(self, job_ids: Sequence[UUID]) -> Sequence[UUID]:
        """Look for edges by a statement of its own.

        As a part of the DELETE it would lock edges that it reads, and wait for those of others
        who have not committed.
        """
        edges = Dependency.objects.using(self.alias).filter(needs_id__in=job_ids)
        needed = set(edges.values_list("needs_id", flat=True))
        free = [one for one in job_ids if one not in needed]
        self._jobs.filter(id__in=free, state=State.RUNNING).delete()
        return free

    def _for_ids(self, sql: str, job_ids: Sequence[UUID]) -> list[Any]:
        given = [Job._meta.pk.get_db_prep_value(one, self.connection) for one in job_ids]
        return self._run(sql.format(ids=marks(given)), given) if given else []
