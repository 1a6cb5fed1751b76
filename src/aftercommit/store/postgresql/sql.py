"""What PostgreSQL is asked: the statements of ``PostgreSQLStore``."""

from functools import cache

from aftercommit.store.columns import CLAIMED, INSERTED

# pg_notify() runs only for queues that got a due job. Inside a transaction the server
# sends it at COMMIT, once for equal texts, and never after a rollback.
TYPES = {
    "id": "uuid",
    "priority": "smallint",
    "run_after": "timestamptz",
    "max_attempts": "int",
    "meta": "jsonb",
    "unique_until_started": "bool",
}
COLUMNS = f"""
    {", ".join(INSERTED)},
    state, token, attempts, crashes, conflicts, cancel_requested, enqueued_at, errors
"""
UNSET = {"run_after": "statement_timestamp()"}
FRESH = "'ready', 0, 0, 0, 0, false, statement_timestamp(), '[]'"
OR_SKIP = "ON CONFLICT DO NOTHING"
INSERT_ONE = f"""
INSERT INTO aftercommit_job ({COLUMNS}) VALUES ({{values}}, {FRESH})
{{or_skip}}
RETURNING CASE WHEN run_after <= statement_timestamp()
    THEN pg_notify('aftercommit', queue) END
"""  # noqa: S608 - fixed names


@cache
def insert_one(unset: frozenset[str], *, or_skip: bool) -> str:
    """Return the statement for one job; what is ``unset`` is no parameter, which is faster."""
    values = [
        f"%({name})s" if name not in unset else UNSET.get(name, "NULL") for name in INSERTED
    ]
    return INSERT_ONE.format(values=", ".join(values), or_skip=OR_SKIP * or_skip)


# One JSON document: it is made and read faster than an array for each column.
MANY = {name: name for name in INSERTED} | {
    "run_after": "COALESCE(run_after, statement_timestamp())"
}
INSERT_MANY = f"""
WITH new AS (
    INSERT INTO aftercommit_job ({COLUMNS})
    SELECT {", ".join(MANY.values())}, {FRESH}
    FROM json_to_recordset(%(jobs)s::json) AS given (
        {", ".join(f"{name} {TYPES.get(name, 'text')}" for name in INSERTED)}
    )
    {{or_skip}}
    RETURNING queue, run_after
)
SELECT pg_notify('aftercommit', queue) FROM new
WHERE run_after <= statement_timestamp()
GROUP BY queue
"""  # noqa: S608 - fixed names

# Only what they do not share comes in long lists. The payloads are elements of one JSON array,
# of which json_array_elements() returns the very text.
SHARED = {name: f"%({name})s::{TYPES.get(name, 'text')}" for name in INSERTED} | {
    "id": "given.id",
    "payload": "given.payload::text",
    "run_after": "COALESCE(%(run_after)s::timestamptz, statement_timestamp())",
}
INSERT_ALIKE = f"""
WITH new AS (
    INSERT INTO aftercommit_job ({COLUMNS})
    SELECT {", ".join(SHARED.values())}, {FRESH}
    FROM ROWS FROM (
        unnest(%(ids)s::uuid[]), json_array_elements(%(payloads)s::json)
    ) AS given (id, payload)
    {{or_skip}}
)
SELECT pg_notify('aftercommit', %(queue)s)
WHERE {SHARED["run_after"]} <= statement_timestamp()
"""  # noqa: S608 - fixed names

# Shared: many callers may wait for the same job, and no claim takes it before they commit.
READY_HOLDER = """
SELECT id FROM aftercommit_job
WHERE unique_lock = %(unique_lock)s AND state = 'ready'
FOR SHARE
"""
WAKE = "SELECT pg_notify('aftercommit', queue) FROM unnest(%(queues)s::text[]) AS queue"

# MATERIALIZED: without the fence the planner may run the LIMIT more than once.
# NO KEY UPDATE: a row that an open transaction references by a foreign key would be
# invisible to plain FOR UPDATE SKIP LOCKED.
ONLY = "AND id = ANY(%(only)s::uuid[])"
CRASHED = {True: "AND crashes > 0 ", False: "AND crashes = 0 "}
AFTER = "AND priority = %(priority)s AND (run_after, id) > (%(run_after)s, %(job_id)s)"
CLAIM = f"""
WITH due AS MATERIALIZED (
    SELECT id
    FROM aftercommit_job
    WHERE state = 'ready' AND queue = %(queue)s  -- ANY(...) would sort every ready row
      AND run_after <= statement_timestamp()
      AND (cardinality(%(backends)s::text[]) = 0 OR backend = ANY(%(backends)s::text[]))
      AND NOT (task_path = ANY(%(unknown)s::text[])) {{which}}
    ORDER BY priority DESC, run_after, id
    LIMIT %(limit)s
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE aftercommit_job AS job
SET state = 'running', token = job.token + 1, attempts = job.attempts + 1,
    worker_id = %(worker_id)s, lease_until = clock_timestamp() + %(lease)s,
    claimed_at = statement_timestamp(),
    started_at = COALESCE(job.started_at, statement_timestamp()),
    unique_lock = CASE WHEN job.unique_until_started THEN NULL ELSE job.unique_lock END
FROM due
WHERE job.id = due.id
RETURNING {", ".join(f"job.{name}" for name in CLAIMED)}
"""  # noqa: S608 - fixed names

# One row after the other is looked up by its primary key: that is what LATERAL with a LIMIT
# says, and joins do not. By the statistics of a queue next to nothing is ever running, so the
# planner would begin with all that is, and compare each with each: 500 rows took 400 ms. For
# the same reason the state is compared with what was found, not with 'running', a second time.
# Never waits: a locked row keeps its lease and is reported from what is committed.
RENEW = """
WITH held AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::uuid[], %(tokens)s::bigint[]) AS given (id, token)
), free AS MATERIALIZED (
    SELECT locked.id, held.token, locked.state
    FROM held CROSS JOIN LATERAL (
        SELECT job.id, job.state FROM aftercommit_job AS job
        WHERE job.id = held.id AND job.token = held.token AND job.state = 'running'
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS locked
), renewed AS (
    UPDATE aftercommit_job AS job
    SET lease_until = clock_timestamp() + %(lease)s
    FROM free
    WHERE job.id = free.id AND job.token = free.token AND job.state = free.state
    RETURNING job.id, job.cancel_requested
)
SELECT id, cancel_requested FROM renewed
UNION ALL
SELECT found.id, found.cancel_requested
FROM held CROSS JOIN LATERAL (
    SELECT job.id, job.cancel_requested FROM aftercommit_job AS job
    WHERE job.id = held.id AND job.token = held.token AND job.state = 'running'
    LIMIT 1
) AS found
WHERE found.id NOT IN (SELECT id FROM renewed)
"""

# The ends come in the order of their ids, so the rows are locked in that order. Numbers come
# as array literals and texts as JSON arrays: both are made and read faster than arrays of text.
FINISH = """
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
    result = COALESCE(mine.result, job.result),
    errors = COALESCE(mine.errors, job.errors),
    run_after = COALESCE(
        statement_timestamp() + make_interval(secs => mine.delay), job.run_after
    ),
    attempts = job.attempts - mine.refund,
    conflicts = job.conflicts + mine.conflict,
    worker_id = CASE WHEN mine.keeps_worker THEN job.worker_id END,
    finished_at = CASE WHEN mine.state <> 'ready' THEN statement_timestamp() END,
    unique_lock = CASE WHEN mine.state = 'ready' THEN job.unique_lock END,
    lease_until = NULL, slot = NULL
FROM mine
WHERE job.id = mine.id AND job.token = mine.token AND job.state = mine.held
RETURNING job.id, job.state
"""

FREE_LOCKS = """
SELECT id FROM unnest(%(ids)s::uuid[], %(keys)s::bigint[]) AS worker (id, key)
WHERE pg_try_advisory_xact_lock_shared(key)
"""
