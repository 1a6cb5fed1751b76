"""The groups of claimable jobs: those of one backend, queue and priority."""

from aftercommit.models.readable import bounded
from aftercommit.store.columns import moment_from
from aftercommit.store.table import Table
from aftercommit.values import ClaimQuery, Group, Head

TYPES = (str, str, int)  # SQLite can store others; such jobs are left out
# The first job of each backend, queue and priority: the walk jumps from one to the next in the
# index of claimable jobs. DISTINCT and GROUP BY of PostgreSQL and SQLite would read all of them.
HEADS = """
WITH RECURSIVE heads (id) AS (
    SELECT (
        SELECT job.id FROM aftercommit_job AS job WHERE {claimable}
        ORDER BY job.backend, job.queue, job.priority DESC, job.run_after, job.id LIMIT 1
    )
    UNION ALL
    SELECT COALESCE(
        (
            SELECT job.id FROM aftercommit_job AS job
            WHERE {claimable} AND job.backend = head.backend AND job.queue = head.queue
              AND job.priority < head.priority
            ORDER BY job.priority DESC, job.run_after, job.id LIMIT 1
        ),
        (
            SELECT job.id FROM aftercommit_job AS job
            WHERE {claimable} AND job.backend = head.backend AND job.queue > head.queue
            ORDER BY job.queue, job.priority DESC, job.run_after, job.id LIMIT 1
        ),
        (
            SELECT job.id FROM aftercommit_job AS job
            WHERE {claimable} AND job.backend > head.backend
            ORDER BY job.backend, job.queue, job.priority DESC, job.run_after, job.id LIMIT 1
        )
    )
    FROM heads JOIN aftercommit_job AS head ON head.id = heads.id
)
SELECT head.backend, head.queue, head.priority
FROM heads JOIN aftercommit_job AS head ON head.id = heads.id
"""


class Groups(Table):
    """Finds the groups without reading their jobs."""

    heads_sql: str
    heads_columns = "head.backend, head.queue, head.priority"
    head_due_sql = "head.run_after"  # the moment of the first job
    due_sql: str  # a condition to add to heads_sql: the head is due

    def queues(self) -> list[str]:
        """Return the names of the queues that have claimable jobs, sorted."""
        return sorted({group.queue for group in self._heads(self.heads_sql)})

    def due_groups(self) -> list[Group]:
        """Return the backends, queues and priorities that have due jobs.

        One statement, which reads one row of each group that has claimable jobs.
        """
        return self._heads(f"{self.heads_sql} {self.due_sql}")

    def due_heads(self) -> list[Head]:
        """Return the same with the moment since which the first job of each is due."""
        return self._heads_of(self.due_sql)

    def _heads_of(self, which: str) -> list[Head]:
        now = self.now_sql.removeprefix("SELECT ")
        due = bounded(self.head_due_sql, self.connection.vendor)
        columns = f"{self.heads_columns}, {due}, {now}"
        heads = self.heads_sql.replace(f"SELECT {self.heads_columns}", f"SELECT {columns}")
        with self.connection.cursor() as cursor:
            cursor.execute(f"{heads} {which}", [])
            rows = cursor.fetchall()
        return [
            Head(Group._make(row[:3]), *map(moment_from, row[3:]))
            for row in rows
            if tuple(map(type, row[:3])) == TYPES
        ]

    def _heads(self, sql: str) -> list[Group]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, [])
            return [
                Group._make(row) for row in cursor.fetchall() if tuple(map(type, row)) == TYPES
            ]

    def _groups(self, query: ClaimQuery) -> list[tuple[str, int]]:
        """Return the backends and priorities to walk, the most urgent first."""
        if query.groups is not None:
            return list(query.groups)
        due = [group for group in self.due_groups() if group.queue == query.queue]
        order = query.backends or sorted({group.backend for group in due})
        found = [(one.backend, one.priority) for one in due if one.backend in order]
        return sorted(found, key=lambda one: (-one[1], order.index(one[0])))
