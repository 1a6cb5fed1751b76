"""Fair lines on MySQL and MariaDB: the first of each key are locked by one statement."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

from aftercommit.options.fair import BEHIND, FIRST, HEAD
from aftercommit.store.columns import id_from
from aftercommit.store.fair.numbers import MOST_PLACES
from aftercommit.store.fair.reading import FIRST_IN_LINE, interleaved
from aftercommit.store.mysql.limits import MySQLLimits
from aftercommit.values import Claim, ClaimQuery

# Jumps from key to key. The recursion of ``reading.KEYS`` would not: a condition on the row of
# an outer query is no range of an index here.
KEYS = """
SELECT line FROM aftercommit_job {index} WHERE line > %s AND line < %s
GROUP BY line ORDER BY line LIMIT {most}
"""
FIRST_OF_ALL = """
SELECT line, backend, queue, id FROM aftercommit_job {index}
WHERE line > %s AND line < %s ORDER BY line LIMIT 1
"""
# The first moment of each key and priority, by the same jumps.
MOMENTS = """
SELECT line, priority, MIN(run_after) AS first FROM aftercommit_job {index}
WHERE line > %s AND line < %s GROUP BY line, priority LIMIT {most}
"""
OLDEST = """
SELECT id FROM aftercommit_job {index}
WHERE line = %s AND priority = %s AND run_after = %s LIMIT 1
"""
OUT_OF_LINE = " line = NULL, blocked = NULL, waits_for = 0,"
LOCK = "FOR UPDATE SKIP LOCKED"


class MySQLFair(MySQLLimits):
    """What the store of MySQL and MariaDB does for fair lines."""

    fair_index = "FORCE INDEX (aftercommit_job_line)"
    fair_keys_sql = KEYS
    first_in_line_sql = FIRST_IN_LINE

    def _fair_part_rows(self) -> list[Any]:
        # One statement for each queue with fair lines; each is claimed from anyway.
        sql = FIRST_OF_ALL.format(index=self.fair_index)
        found: list[Any] = []
        after = FIRST
        while rows := self._rows(sql, [after, BEHIND]):
            found += rows
            after = rows[0][0][: HEAD + 1] + BEHIND
        return found

    def _oldest(self, begin: str, end: str) -> UUID | None:
        rows = self._rows(MOMENTS.format(index=self.fair_index, most=MOST_PLACES), [begin, end])
        if not rows:
            return None
        oldest = min(rows, key=itemgetter(2))
        found = self._rows(OLDEST.format(index=self.fair_index), oldest)
        return id_from(found[0][0]) if found else None

    def _claim_from_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int
    ) -> tuple[list[Claim], str | None]:
        with self._write():
            lines = self._heads_of_lines(query, keys, share, columns="id", lock=LOCK)
            rows = interleaved(lines)[: query.limit]
            ids = [row[0] for row in rows]
            claims = self._claim_ids(query, ids, slot=OUT_OF_LINE) if ids else []
            place = {id_from(one): number for number, one in enumerate(ids)}
            claims.sort(key=lambda one: place[one.job_id])
            return claims, rows[-1][-1] if rows else None
