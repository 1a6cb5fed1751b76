"""Fair lines on PostgreSQL: one statement claims from all of the keys."""

from collections.abc import Sequence
from typing import Any

from aftercommit.store.postgresql.grants import PostgreSQLGrants
from aftercommit.store.postgresql.limits import claims_from
from aftercommit.store.postgresql.sql import CLAIM, COLUMNS_READ, CRASHED
from aftercommit.values import Claim, ClaimQuery

WAITS = """blocked = 4 AND state = 'ready' AND run_after <= statement_timestamp()
                    AND NOT (task_path = ANY(%(unknown)s::text[])) {which}"""
HIGHEST = f"""(
                        SELECT priority FROM aftercommit_job
                        WHERE line = keys.line AND {WAITS} {{below}}
                        ORDER BY line DESC, priority DESC, run_after DESC, id DESC LIMIT 1
                    )"""  # noqa: S608 - fixed names
FIRST = f"""(
                    SELECT id, priority, run_after FROM aftercommit_job
                    WHERE line = keys.line AND priority = {{level}} AND {WAITS}
                    ORDER BY run_after, id
                    LIMIT %(share)s
                    FOR NO KEY UPDATE SKIP LOCKED
                )"""  # noqa: S608
TOP = HIGHEST.format(which="{which}", below="")
NEXT = HIGHEST.format(which="{which}", below=f"AND priority < {TOP}")
# Of each key the jobs with the highest priority, and those with the next one if these are too
# few. A recursion through all priorities would be so dear by its estimate that the server
# compiles the statement, which takes longer than to carry it out.
IN_TURN = f"""
WITH due AS MATERIALIZED (
    SELECT taken.id, taken.number,
        row_number() OVER (
            PARTITION BY taken.number ORDER BY taken.urgency DESC, taken.moment, taken.id
        ) AS place
    FROM (
        SELECT first.id, first.priority AS urgency, first.run_after AS moment, keys.number
        FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS keys (line, number)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                SELECT * FROM {FIRST.format(which="{which}", level=TOP)} AS top
                UNION ALL
                SELECT * FROM {FIRST.format(which="{which}", level=NEXT)} AS next
            ) AS both_levels
            LIMIT %(share)s
        ) AS first
        LIMIT %(limit)s
    ) AS taken
)
"""  # noqa: S608
# An array, so that the planner looks them up by the primary key, and does not begin a join with
# all jobs.
OUT_OF_LINE = """, line = NULL, blocked = NULL, waits_for = 0
    WHERE job.id = ANY(ARRAY(SELECT id FROM due))"""
COLUMNS_OF_CLAIM = f"SELECT {COLUMNS_READ}\nFROM claimed\n"
WITH_NUMBER = f"SELECT {COLUMNS_READ}, due.number\nFROM claimed\n"
ONE_OF_EACH = "JOIN due USING (id) ORDER BY due.place, due.number"


class PostgreSQLFair(PostgreSQLGrants):
    """What the store of PostgreSQL does for fair lines."""

    def _claim_from_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int
    ) -> tuple[list[Claim], str | None]:
        which = "" if query.crashed is None else CRASHED[query.crashed]
        given: dict[str, Any] = {
            "keys": list(keys),
            "share": share,
            "limit": query.limit,
            "unknown": list(query.unknown),
        }
        sql = CLAIM.format(due=IN_TURN.format(which=which), ended="", taken=OUT_OF_LINE)
        sql = sql.replace(COLUMNS_OF_CLAIM, WITH_NUMBER) + ONE_OF_EACH
        rows, lease_id = self._run_claim(sql, query, given)
        last = keys[rows[-1][-1] - 1] if rows else None
        return claims_from([row[:-1] for row in rows], query, lease_id), last
