"""The SQL statements of ``PostgreSQLLimits``.

Ids and numbers are sent as array literals and keys as JSON, see ``FINISH``; a job has the number
of its key among those.

A subquery with LIMIT or OFFSET is executed for each row in front of it: the planner takes no
join instead, for which it would read the whole table.
"""

from aftercommit.models.readable import bounded

LOCK = "pg_try_advisory_xact_lock(hashtextextended('aftercommit:' || {key}, 0))"
# A session that stands still while it holds keys is ended after so long.
STANDING_STILL = """set_config(
    'idle_in_transaction_session_timeout',
    COALESCE(%(longest)s::text, current_setting('idle_in_transaction_session_timeout')), true
)"""
# Whoever locks keys holds this one as well, but for a claim that only gives free slots away, and
# parks nobody. So one look finds out that no job of any key is about to be parked. That look
# holds it for one statement, which waits for nothing.
PARKING = "hashtextextended('aftercommit parks', 0)"
MAY_PARK = f"pg_advisory_xact_lock_shared({PARKING}) AS may_park"
NOBODY_PARKS = f"SELECT pg_try_advisory_xact_lock({PARKING})"
KEYS = "json_array_elements_text(%(keys)s::json)"
WITH_KEYS = f"WITH given AS MATERIALIZED (SELECT key FROM {KEYS} AS key)"  # noqa: S608
TRY_KEYS = f"""
SELECT key FROM {KEYS} AS key, {STANDING_STILL}, {MAY_PARK}
WHERE {LOCK.format(key="key")}
"""  # noqa: S608 - fixed names
# In autocommit the locks end with the statement. Shared: who asks hinders nobody who asks.
UNLOCKED_KEYS = f"""
SELECT key FROM {KEYS} AS key
WHERE {LOCK.format(key="key").replace("xact_lock", "xact_lock_shared")}
"""  # noqa: S608
# A selection of due jobs, changed to read what the decision needs, and to lock no rows.
WITHOUT_LOCKS = (
    ("FOR NO KEY UPDATE SKIP LOCKED", ""),
    ("SELECT first.id, first.limit_key", "SELECT first.*"),
    (
        "SELECT id, run_after, limit_key",
        COLUMNS := "SELECT id, limit_key, task_path, queue, state, priority, run_after",
    ),
    ("SELECT id, limit_key\n", COLUMNS + "\n"),
)
# All sessions keep their locks in one table, of which a claim takes a small part.
MOST_KEYS = """LEAST(%(most_keys)s, current_setting('max_locks_per_transaction')::int
            * current_setting('max_connections')::int / 12)"""
LOOK = f"""{{due}}, numbered AS MATERIALIZED (
    SELECT *, row_number() OVER () AS number FROM due
), tried AS MATERIALIZED (
    SELECT limit_key, {LOCK.format(key="limit_key")} AS held
    FROM (
        SELECT limit_key FROM numbered WHERE limit_key IS NOT NULL
        GROUP BY limit_key ORDER BY MIN(number) LIMIT {MOST_KEYS}
    ) AS first, {STANDING_STILL}, {MAY_PARK}
)
SELECT due.id, due.limit_key, due.task_path, due.queue, due.state, due.priority,
    {bounded("due.run_after", "postgresql")}, tried.held
FROM numbered AS due LEFT JOIN tried ON tried.limit_key = due.limit_key
ORDER BY number
"""  # noqa: S608
KNOWN = f"""{WITH_KEYS}
SELECT NULL::uuid, given.key, ARRAY(
    SELECT slot FROM aftercommit_job WHERE limit_key = given.key AND slot IS NOT NULL
), NULL::smallint, NULL, false
FROM given
UNION ALL
SELECT job.id, job.limit_key, CASE WHEN job.slot IS NULL THEN '{{}}' ELSE ARRAY[job.slot] END,
    job.blocked, job.state, job.claimable
FROM given
CROSS JOIN unnest('{{0,2}}'::smallint[]) AS mark
CROSS JOIN LATERAL (
    SELECT * FROM aftercommit_job WHERE blocked = mark AND limit_key = given.key OFFSET 0
) AS job
UNION ALL
SELECT job.id, job.limit_key, '{{}}', NULL, job.state, job.claimable
FROM unnest(%(ids)s::uuid[]) AS given (id)
CROSS JOIN LATERAL (
    SELECT id, limit_key, state, claimable FROM aftercommit_job WHERE id = given.id LIMIT 1
) AS job
"""  # noqa: S608
WITH_PARKED = f"""{WITH_KEYS}
SELECT key FROM given
CROSS JOIN LATERAL (
    SELECT 1 FROM aftercommit_job WHERE blocked = 1 AND limit_key = given.key LIMIT 1
) AS job
"""  # noqa: S608
FIRST_PARKED = """
SELECT job.* FROM ROWS FROM (
    json_array_elements_text(%(keys)s::json), unnest(%(rooms)s::int[])
) AS given (key, room)
CROSS JOIN LATERAL (
    SELECT {columns} FROM aftercommit_job
    WHERE blocked = 1 AND limit_key = given.key AND priority = (
        SELECT MAX(priority) FROM aftercommit_job WHERE blocked = 1 AND limit_key = given.key
    )
    ORDER BY aftercommit_job.run_after, id LIMIT given.room
) AS job
"""
FIRST_IN_LINE = """
SELECT job.* FROM ROWS FROM (
    json_array_elements_text(%(keys)s::json), unnest(%(numbers)s::int[]), unnest(%(below)s::int[])
) AS given (key, number, below)
CROSS JOIN LATERAL (
    SELECT line, id, queue, state, blocked, priority, {due} AS due FROM aftercommit_job
    WHERE line = given.key AND priority = (
        SELECT MAX(priority) FROM aftercommit_job
        WHERE line = given.key AND priority < given.below
    )
    ORDER BY aftercommit_job.run_after, id LIMIT given.number
) AS job
"""
OF_JOBS = """(
    SELECT given.*, keys.key
    FROM unnest(%(ids)s::uuid[], %(numbers)s::int[], %(slots)s::int[], %(blocked)s::smallint[])
        AS given (id, number, slot, blocked)
    JOIN json_array_elements_text(%(keys)s::json) WITH ORDINALITY AS keys (key, number)
        USING (number)
) AS given"""
GIVEN_SLOTS = f"""
WITH due AS MATERIALIZED (
    SELECT job.id, given.slot, given.blocked
    FROM {OF_JOBS}
    CROSS JOIN LATERAL (
        SELECT id FROM aftercommit_job
        WHERE id = given.id AND limit_key = given.key AND claimable AND state = 'ready'
          AND run_after <= statement_timestamp()
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
)
"""  # noqa: S608
# The array has the same ids. The planner expects few of them, and looks them up; for a join with
# as many as there are it may read the whole table.
WITH_SLOT = """, slot = due.slot, blocked = due.blocked
    FROM due
    WHERE job.id = due.id AND job.id = ANY(ARRAY(SELECT id FROM due)) AND job.state = 'ready'"""
# waits_for as well, by which the database may set "claimable": see migrations._flags.
# IS NOT DISTINCT FROM: with "=", the planner may read the whole line for each of its jobs.
MOVE = f"""
WITH free AS MATERIALIZED (
    SELECT job.id
    FROM {OF_JOBS}
    CROSS JOIN LATERAL (
        SELECT id FROM aftercommit_job
        WHERE id = given.id AND limit_key = given.key AND state = 'ready' AND CASE
            WHEN %(parked)s THEN blocked IS NOT DISTINCT FROM 1
            ELSE claimable AND run_after <= statement_timestamp()
        END
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
)
UPDATE aftercommit_job AS job
SET claimable = %(claimable)s, waits_for = %(waits_for)s, blocked = %(to)s
WHERE job.id = ANY(ARRAY(SELECT id FROM free)) AND job.state = 'ready'
RETURNING job.id
"""  # noqa: S608
UPDATE_SLOTS = """
UPDATE aftercommit_slot AS slot SET job_id = given.job_id, token = given.token
FROM unnest(%(ids)s::bigint[], %(jobs)s::uuid[], %(tokens)s::bigint[])
    AS given (id, job_id, token)
WHERE slot.id = given.id
"""
