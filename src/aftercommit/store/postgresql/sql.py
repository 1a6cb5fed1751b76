"""The SQL statements of ``PostgreSQLStore``."""

from collections.abc import Iterable

from aftercommit.models.readable import bounded
from aftercommit.store.columns import (
    CLAIMED,
    LARGEST_COUNT,
    LARGEST_TOKEN,
    MOMENTS,
)

READY_HOLDER = """
SELECT * FROM aftercommit_job
WHERE unique_lock = %(unique_lock)s AND state = 'ready'
{lock}
"""
RULES_CHANGED = "SELECT pg_notify('aftercommit_rules', '')"
# In both no worker claims the job before the caller commits. FOR SHARE: many may count on it.
TO_READ, TO_CHANGE = "FOR SHARE", "FOR NO KEY UPDATE"
WAKE = "SELECT pg_notify('aftercommit', queue) FROM unnest(%(queues)s::text[]) AS queue"

TELL = "SELECT pg_notify(%(channel)s, id) FROM unnest(%(workers)s::text[]) AS id"

# Whoever waits for a job says so in its row; the end of a job that nobody waits for tells nobody.
# A claim passes over a row that is being written: hence the worker is woken again. Rows that
# others have locked are skipped: to wait for one would hold up the ends of those locked by then.
AWAIT = """
WITH asked AS (
    UPDATE aftercommit_job SET awaited = true
    WHERE id IN (
        SELECT id FROM aftercommit_job
        WHERE id = ANY(%(ids)s::uuid[]) AND awaited IS NOT TRUE AND state IN ('ready', 'running')
        ORDER BY id
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING id, CASE WHEN state = 'ready' AND run_after <= statement_timestamp()
        THEN pg_notify('aftercommit', queue) END AS woken
)
SELECT id FROM asked
UNION ALL
SELECT id FROM aftercommit_job
WHERE id = ANY(%(ids)s::uuid[]) AND awaited AND state IN ('ready', 'running')
"""

ONLY = "AND id = ANY(%(only)s::uuid[])"
BUSY = "AND (limit_key IS NULL OR NOT (limit_key = ANY(%(busy)s::text[]))) "
CRASHED = {True: "AND crashes > 0 ", False: "AND crashes = 0 "}
# The state as well: a program of version 0.1 may not have written the flag yet.
# NO KEY UPDATE: plain FOR UPDATE SKIP LOCKED would skip a row that an open transaction
# references by a foreign key.
FIRST_DUE = """
SELECT id, run_after, limit_key
FROM aftercommit_job
WHERE claimable AND state = 'ready' AND queue = %(queue)s AND backend = {backend}
  AND priority = {priority} AND run_after <= statement_timestamp()
  AND NOT (task_path = ANY(%(unknown)s::text[])) {which}
ORDER BY run_after, id
LIMIT %(limit)s
FOR NO KEY UPDATE SKIP LOCKED
"""
# The groups in the given order, until there are enough jobs. Within a group the index is in the
# order of time, so jobs of the future are not read.
IN_GROUPS = f"""
WITH due AS MATERIALIZED (
    SELECT first.id, first.limit_key
    FROM unnest(%(backends)s::text[], %(priorities)s::int[]) AS walked (backend, priority)
    CROSS JOIN LATERAL ({
    FIRST_DUE.format(backend="walked.backend", priority="walked.priority", which="{which}")
}) AS first
    LIMIT %(limit)s
)
"""  # noqa: S608 - fixed names
FROM_POSITION = f"""
WITH due AS MATERIALIZED ({
    FIRST_DUE.format(
        backend="%(backend)s",
        priority="%(priority)s",
        which="AND (run_after, id) > (%(run_after)s, %(job_id)s) {which}",
    )
})
"""
NAMED = """
WITH due AS MATERIALIZED (
    SELECT id, limit_key
    FROM aftercommit_job
    WHERE claimable AND state = 'ready' AND queue = %(queue)s
      AND (cardinality(%(backends)s::text[]) = 0 OR backend = ANY(%(backends)s::text[]))
      AND id = ANY(%(only)s::uuid[]) AND run_after <= statement_timestamp()
      AND NOT (task_path = ANY(%(unknown)s::text[])) {which}
    ORDER BY priority DESC, run_after, id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
"""
COLUMNS_CLAIMED = ", ".join(f"job.{name}" for name in CLAIMED)
COLUMNS_READ = ", ".join(
    bounded(name, "postgresql") if name in MOMENTS else name for name in CLAIMED
)
# MATERIALIZED, above: otherwise the planner may execute the LIMIT more than once.
# {taken}: which of them, and what else is written. See LIMIT_MET.
CLAIM = f"""{{due}}, claimed AS (
    UPDATE aftercommit_job AS job
    SET state = 'running', claimable = false,
        token = LEAST(job.token, {LARGEST_TOKEN - 1}) + 1,
        attempts = LEAST(job.attempts, {LARGEST_COUNT - 1}) + 1, worker_id = %(worker_id)s,
        claimed_at = statement_timestamp(),
        started_at = COALESCE(job.started_at, statement_timestamp()),
        unique_lock = CASE WHEN job.unique_until_started THEN NULL ELSE job.unique_lock END
        {{taken}}
    RETURNING {COLUMNS_CLAIMED}
), leased AS (
    INSERT INTO aftercommit_lease (id, worker_id, lease_until, jobs)
    SELECT %(lease_id)s, %(worker_id)s, clock_timestamp() + %(lease)s,
        -- half the time of json_object_agg()
        '{{{{' || string_agg('"' || id || '":' || token, ',') || '}}}}'
    FROM claimed HAVING count(*) > 0
){{ended}}
SELECT {COLUMNS_READ}
FROM claimed
"""  # noqa: S608 - fixed names
# The same, with the limit keys of the jobs.
CLAIM_WITH_KEYS = CLAIM.replace(COLUMNS_CLAIMED, f"{COLUMNS_CLAIMED}, job.limit_key").replace(
    COLUMNS_READ, f"{COLUMNS_READ}, limit_key"
)
# What due jobs are read with if some tasks are limited at run time: theirs have no key yet.
LIMITED_TOO = """CASE
    WHEN task_path = ANY(%(limited)s::text[]) THEN '' ELSE limit_key
END AS limit_key
"""
WITHOUT_LIMIT = "FROM due WHERE job.id = due.id AND due.limit_key IS NULL"
# A last row without anything else says that a due job has a limit key.
LIMIT_MET = f"""UNION ALL
(
    SELECT id, {", ".join(["NULL"] * (len(CLAIMED) - 1))}
    FROM due WHERE limit_key IS NOT NULL LIMIT 1
)
"""  # noqa: S608
ENDED = """, ended AS (
    DELETE FROM aftercommit_lease
    WHERE id IN (
        SELECT id FROM aftercommit_lease WHERE id = ANY(%(ended)s::uuid[])
        FOR UPDATE SKIP LOCKED
    )
)"""

# LATERAL with a LIMIT forces one lookup by the primary key for each row; a join does not. By the
# statistics of the table almost no job is running, so the planner would begin a join with all
# running jobs and compare each of them with each claim: 500 rows took 400 ms. For the same
# reason the UPDATE compares the state with the one that was found, and not with 'running'.
# RENEW never waits: a locked lease stays as it is.
RENEW = """
WITH free AS MATERIALIZED (
    SELECT id FROM aftercommit_lease WHERE id = ANY(%(leases)s::uuid[])
    FOR NO KEY UPDATE SKIP LOCKED
), renewed AS (
    UPDATE aftercommit_lease AS lease
    SET lease_until = clock_timestamp() + %(lease)s
    FROM free WHERE lease.id = free.id
)
SELECT found.id, found.cancel_requested, held.lease_id,
    held.lease_id IN (SELECT id FROM free)
FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[], %(lease_of)s::uuid[])
    AS held (id, token, lease_id)
CROSS JOIN LATERAL (
    SELECT job.id, job.cancel_requested FROM aftercommit_job AS job
    WHERE job.id = held.id AND job.token = held.token AND job.state = 'running'
    LIMIT 1
) AS found
WHERE held.lease_id IN (SELECT id FROM aftercommit_lease)
"""


def array(values: Iterable[object]) -> str:
    """Return an array literal of values that need no quotes."""
    return f"{{{','.join(map(str, values))}}}"


# The same ids once more: the planner expects few of them, and looks them up. For a join with as
# many as there are it reads the whole of a table of up to some 100,000 rows: that took 27 of the
# 40 ms of 1,000 ends among 20,000 jobs.
OF_ENDED = "job.id = ANY(ARRAY(SELECT id FROM mine))"
# The outcomes are given in the order of the job ids, so the rows are locked in that order.
# Numbers are sent as array literals and texts as JSON arrays: both are built and parsed faster
# than arrays of text.
FINISH = f"""
WITH ended AS MATERIALIZED (
    SELECT *
    FROM ROWS FROM (
        unnest(%(ids)s::uuid[]), unnest(%(tokens)s::bigint[]), unnest(%(states)s::text[]),
        unnest(%(delays)s::float8[]), unnest(%(refunds)s::int[]),
        unnest(%(conflicts)s::int[]), unnest(%(keeps)s::bool[]),
        json_array_elements_text(%(results)s::json),
        json_array_elements_text(%(errors)s::json)
    ) AS given (id, token, state, delay, refund, conflict, keeps_worker, result, errors)
), mine AS MATERIALIZED (
    SELECT locked.id, locked.state AS held, ended.token, delay, refund, conflict, keeps_worker,
        result, errors, CASE
            WHEN ended.state = 'ready' AND locked.cancel_requested THEN 'cancelled'
            ELSE ended.state
        END AS state
    FROM ended CROSS JOIN LATERAL (
        SELECT job.id, job.state, job.cancel_requested FROM aftercommit_job AS job
        WHERE job.id = ended.id AND job.token = ended.token AND job.state = 'running'
        LIMIT 1 FOR NO KEY UPDATE
    ) AS locked
)
UPDATE aftercommit_job AS job
SET state = mine.state,
    claimable = mine.state = 'ready',
    unsuccessful = mine.state IN ('failed', 'cancelled'),
    result = COALESCE(mine.result, job.result),
    errors = COALESCE(mine.errors, job.errors),
    run_after = COALESCE(
        statement_timestamp() + make_interval(secs => mine.delay), job.run_after
    ),
    attempts = job.attempts - mine.refund,
    conflicts = LEAST(job.conflicts, {LARGEST_COUNT} - mine.conflict) + mine.conflict,
    worker_id = CASE WHEN mine.keeps_worker THEN job.worker_id END,
    finished_at = CASE WHEN mine.state <> 'ready' THEN statement_timestamp() END,
    unique_lock = CASE WHEN mine.state = 'ready' THEN job.unique_lock END,
    lease_until = NULL, slot = NULL
FROM mine
WHERE job.id = mine.id AND {OF_ENDED}
  AND job.token = mine.token AND job.state = mine.held {{which}}
RETURNING job.id, job.state, job.needed,
    CASE WHEN job.awaited AND mine.state <> 'ready'
        THEN pg_notify('aftercommit_ended', job.id::text) END
"""  # noqa: S608 - fixed names

# A job that others wait for is written apart, in a transaction with what its end does to them.
NOT_NEEDED = "AND job.needed IS NULL"

# FINISH for a batch of successes, as most batches are: it does not lock the rows before the
# UPDATE, and does not write the columns that stay as they are. For each job it saves 5 of 22 µs
# of the worker and 5 of 32 µs of the server (``python -m benchmarks.run --workloads drain``).
# FINISH is then executed for the rows that SUCCEED did not update.
SUCCEED = f"""
WITH mine AS MATERIALIZED (
    SELECT ended.id, seen.state AS held, ended.token, ended.result
    FROM ROWS FROM (
        unnest(%(ids)s::uuid[]), unnest(%(tokens)s::bigint[]),
        json_array_elements_text(%(results)s::json)
    ) AS ended (id, token, result)
    CROSS JOIN LATERAL (
        SELECT job.state FROM aftercommit_job AS job
        WHERE job.id = ended.id AND job.token = ended.token AND job.state = 'running'
        LIMIT 1
    ) AS seen
)
UPDATE aftercommit_job AS job
SET state = 'succeeded', result = mine.result, finished_at = statement_timestamp(),
    lease_until = NULL, slot = NULL, unique_lock = NULL
FROM mine
WHERE job.id = mine.id AND {OF_ENDED}
  AND job.token = mine.token AND job.state = mine.held AND job.needed IS NULL
RETURNING job.id,
    CASE WHEN job.awaited THEN pg_notify('aftercommit_ended', job.id::text) END
"""  # noqa: S608 - fixed names

# An array, so that the planner looks the jobs up by the primary key, and does not begin a join
# with all jobs.
# Not by json_object_keys(): one row that is no JSON would make the statement fail. Not by
# regexp_matches() either, which takes 100 ms for the 2,000 jobs of a busy process, not 14.
HELD = """
aftercommit_job.id = ANY(ARRAY(
    SELECT replace(part, '-', '')::uuid
    FROM aftercommit_lease, unnest(string_to_array(jobs, '"')) AS part
    WHERE length(part) IN (32, 36) AND replace(part, '-', '') ~ '^[0-9a-f]{32}$'
    UNION ALL
    SELECT id FROM aftercommit_job WHERE lease_until IS NOT NULL
))
"""

# How deep the groups are; see ``Measuring.depths_sql``. What is due comes first in the index.
DEPTHS = (
    "counted.due",
    "counted.ready",
    """CROSS JOIN LATERAL (
    SELECT COUNT(*) AS ready, COUNT(*) FILTER (WHERE one.run_after <= (SELECT {now})) AS due
    FROM (SELECT job.run_after FROM {group} ORDER BY job.run_after LIMIT {most}) AS one
) AS counted""",
)
