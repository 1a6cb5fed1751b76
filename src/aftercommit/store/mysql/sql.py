"""The SQL statements of ``MySQLStore``."""

import re
from functools import cache

from aftercommit.store.columns import CLAIMED, LARGEST_COUNT, LARGEST_TOKEN

INSERT = """
INSERT INTO aftercommit_job (
    {columns},
    state, token, attempts, crashes, conflicts, cancel_requested, enqueued_at, errors
) VALUES {rows}
{ending}
"""
ROW = "({values}, 'ready', 0, 0, 0, 0, FALSE, UTC_TIMESTAMP(6), '[]')"
GIVEN = {"run_after": "COALESCE(%s, UTC_TIMESTAMP(6))"}


@cache
def row_of(columns: tuple[str, ...]) -> str:
    """Return the placeholders of one row of ``INSERT``."""
    return ROW.format(values=", ".join(GIVEN.get(name, "%s") for name in columns))


# Not INSERT IGNORE: it would skip rows that violate other constraints, and cut long texts.
OR_SKIP = "ON DUPLICATE KEY UPDATE aftercommit_job.id = aftercommit_job.id"
RETURNING = " RETURNING enqueued_at"  # MariaDB
HOLDER = """
SELECT * FROM aftercommit_job FORCE INDEX (aftercommit_job_unique)
WHERE unique_lock = %s {ready}
{lock}
"""
READY = "AND state = 'ready'"
TO_READ, TO_CHANGE = "LOCK IN SHARE MODE", "FOR UPDATE"

# Jumps from one group of the index to the next ("Using index for group-by" in EXPLAIN), which
# demands that the GROUP BY names the index's columns from the first one on, and no DESC among
# them.
HEADS = """
SELECT backend, queue, priority
FROM aftercommit_job FORCE INDEX (aftercommit_job_claimable)
WHERE claimable = TRUE
GROUP BY claimable, backend, queue, priority
"""
# Jumps from key to key in the same way. The recursion of ``reading.PARKED_KEYS`` would not: a
# condition on the row of an outer query is no range of an index here.
PARKED_KEYS = """
SELECT line.limit_key, (
    SELECT task_path FROM aftercommit_job AS job {lines}
    WHERE job.blocked = 1 AND job.limit_key = line.limit_key LIMIT 1
)
FROM (
    SELECT limit_key FROM aftercommit_job {lines} WHERE blocked = 1 AND limit_key > %s
    GROUP BY blocked, limit_key ORDER BY blocked, limit_key LIMIT {most}
) AS line
ORDER BY line.limit_key
"""
RATE_LINES = """
SELECT found.line, (
    SELECT task_path FROM aftercommit_job AS job {index} WHERE job.line = found.line LIMIT 1
)
FROM (
    SELECT line FROM aftercommit_job {index} WHERE line > %s
    GROUP BY line ORDER BY line LIMIT {most}
) AS found
ORDER BY found.line
"""
CLAIMABLE_JOBS = (
    "aftercommit_job AS job FORCE INDEX (aftercommit_job_claimable) WHERE job.claimable = TRUE"
)
# InnoDB locks every row that it reads, so the statement must read only the rows that it
# claims: in the order of the index, without a sort. SKIP LOCKED skips rows that another
# worker is claiming. The state as well: see ``Table._claimable``.
DUE = """
SELECT id, limit_key
FROM aftercommit_job FORCE INDEX (aftercommit_job_claimable)
WHERE claimable = TRUE AND backend = %s AND queue = %s AND priority = %s
  AND run_after <= UTC_TIMESTAMP(6) AND state = 'ready' {chosen}
ORDER BY run_after, id
LIMIT %s
FOR UPDATE SKIP LOCKED
"""
NAMED = """
SELECT id, limit_key
FROM aftercommit_job FORCE INDEX (PRIMARY)
WHERE claimable = TRUE AND queue = %s AND run_after <= UTC_TIMESTAMP(6) AND state = 'ready'
  {chosen}
ORDER BY priority DESC, run_after, id
LIMIT %s
FOR UPDATE SKIP LOCKED
"""
CLAIM = f"""
UPDATE aftercommit_job FORCE INDEX (PRIMARY)
SET state = 'running', claimable = FALSE, worker_id = %s,{{slot}}
    token = LEAST(token, {LARGEST_TOKEN - 1}) + 1,
    attempts = LEAST(attempts, {LARGEST_COUNT - 1}) + 1,
    claimed_at = UTC_TIMESTAMP(6), started_at = COALESCE(started_at, UTC_TIMESTAMP(6)),
    unique_lock = IF(unique_until_started, NULL, unique_lock)
WHERE state = 'ready' AND id IN ({{ids}})
"""  # noqa: S608 - fixed names
LEASE = """
INSERT INTO aftercommit_lease (id, worker_id, lease_until, jobs)
VALUES (%s, %s, TIMESTAMPADD(MICROSECOND, %s, UTC_TIMESTAMP(6)), %s)
"""
# A derived table, so that the server begins with the leases.
HELD_JOBS = """
aftercommit_job.id IN (
    SELECT held.id FROM (
        SELECT held_job.id FROM aftercommit_lease
        JOIN JSON_TABLE(
            JSON_KEYS(IF(JSON_VALID(jobs), jobs, '{}')), '$[*]' COLUMNS (id CHAR(36) PATH '$')
        ) AS held_job
        UNION ALL
        SELECT id FROM aftercommit_job WHERE lease_until IS NOT NULL
    ) AS held
)
"""
# The ORM cannot force an index. A DELETE may name one only if it names the table twice.
OURS = r"`(aftercommit_job|aftercommit_lease|aftercommit_slot)`"
BY_ID = r"`\1` FORCE INDEX (PRIMARY)"
FORCED = [
    (re.compile(rf"UPDATE {OURS} SET"), rf"UPDATE {BY_ID} SET"),
    (re.compile(rf"DELETE FROM {OURS}"), rf"DELETE `\1` FROM {BY_ID}"),  # noqa: S608
    (re.compile(rf"FROM {OURS}(?=.* FOR UPDATE)", re.DOTALL), rf"FROM {BY_ID}"),
]
# The rows of a batch of outcomes, locked in the order that every batch uses.
HELD = """
SELECT id, token, needed, cancel_requested FROM aftercommit_job FORCE INDEX (PRIMARY)
WHERE id IN ({ids}) AND state = 'running'
ORDER BY id
FOR UPDATE
"""
SUCCEED = """
UPDATE aftercommit_job FORCE INDEX (PRIMARY)
SET state = 'succeeded', result = %s, finished_at = UTC_TIMESTAMP(6),
    lease_until = NULL, slot = NULL, unique_lock = NULL
WHERE id IN ({ids})
"""
CLAIMED_ROWS = f"SELECT {', '.join(CLAIMED)} FROM aftercommit_job WHERE id IN ({{ids}})"  # noqa: S608
LOCK_IS_FREE = "IS_USED_LOCK(%s) IS NULL"
# For the locked rows of DUE and NAMED, what is read without a lock.
LOCKED_IDS, WITHOUT_LOCK = "SELECT id, limit_key", "FOR UPDATE SKIP LOCKED"
GIVEN_SLOT = """
    slot = CASE id {slots} END, blocked = IF(id IN ({holders}), 2, NULL),"""
KEY_IS_FREE = "IS_FREE_LOCK(%s)"
HAS_PARKED = """EXISTS (
    SELECT 1 FROM aftercommit_job FORCE INDEX (aftercommit_job_limited)
    WHERE blocked = 1 AND limit_key = %s
)"""
TRY_KEY, RELEASE_KEY = "GET_LOCK(%s, 0)", "RELEASE_LOCK(%s)"
# After so many seconds without a statement the server ends the session.
PATIENCE, SET_PATIENCE = "@@SESSION.wait_timeout", "SET SESSION wait_timeout = %s"
# Beginning with the given rows: the server locks each row that it reads.
UPDATE_SLOTS = """
UPDATE JSON_TABLE(%s, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', job_id CHAR(36) PATH '$[1]', token BIGINT PATH '$[2]'
)) AS given STRAIGHT_JOIN aftercommit_slot AS slot FORCE INDEX (PRIMARY) ON slot.id = given.id
SET slot.job_id = given.job_id, slot.token = given.token
"""
