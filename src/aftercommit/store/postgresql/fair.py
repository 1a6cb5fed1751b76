"""Fair lines on PostgreSQL: one statement claims from all of the keys."""

from collections.abc import Sequence
from typing import Any

from aftercommit.store.postgresql.limits import PostgreSQLLimits, claims_from
from aftercommit.store.postgresql.sql import CLAIM, CRASHED
from aftercommit.values import Claim, ClaimQuery

# For each key the priorities in use, the highest first, until there are enough jobs.
IN_TURN = """
WITH due AS MATERIALIZED (
    SELECT taken.id, taken.number,
        row_number() OVER (
            PARTITION BY taken.number ORDER BY taken.urgency DESC, taken.moment, taken.id
        ) AS place
    FROM (
        SELECT first.id, first.priority AS urgency, first.run_after AS moment, keys.number
        FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS keys (line, number)
        CROSS JOIN LATERAL (
            WITH RECURSIVE level (priority) AS (
                SELECT MAX(priority) FROM aftercommit_job WHERE line = keys.line
                UNION ALL
                SELECT (
                    SELECT MAX(job.priority) FROM aftercommit_job AS job
                    WHERE job.line = keys.line AND job.priority < level.priority
                )
                FROM level WHERE level.priority IS NOT NULL
            )
            SELECT one.* FROM level CROSS JOIN LATERAL (
                SELECT id, priority, run_after FROM aftercommit_job
                WHERE line = keys.line AND priority = level.priority AND blocked = 4
                  AND state = 'ready' AND run_after <= statement_timestamp()
                  AND NOT (task_path = ANY(%(unknown)s::text[])) {which}
                ORDER BY run_after, id
                LIMIT %(share)s
                FOR NO KEY UPDATE SKIP LOCKED
            ) AS one
            LIMIT %(share)s
        ) AS first
        LIMIT %(limit)s
    ) AS taken
)
"""
OUT_OF_LINE = """, line = NULL, blocked = NULL, waits_for = 0
    FROM due WHERE job.id = due.id"""
ONE_OF_EACH = "JOIN due USING (id) ORDER BY due.place, due.number"


class PostgreSQLFair(PostgreSQLLimits):
    """What the store of PostgreSQL does for fair lines."""

    def _claim_from_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int
    ) -> list[Claim]:
        which = "" if query.crashed is None else CRASHED[query.crashed]
        given: dict[str, Any] = {
            "keys": list(keys),
            "share": share,
            "limit": query.limit,
            "unknown": list(query.unknown),
        }
        sql = CLAIM.format(due=IN_TURN.format(which=which), ended="", taken=OUT_OF_LINE)
        rows, lease_id = self._run_claim(sql + ONE_OF_EACH, query, given)
        return claims_from(rows, query, lease_id)
