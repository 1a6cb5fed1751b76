"""The SQL statements of ``SQLiteStore``."""

from functools import cache

from aftercommit.store.columns import CLAIMED, LARGEST_COUNT, LARGEST_TOKEN, MOMENTS

NOW = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'NOW')"
INSERT = f"""
INSERT INTO aftercommit_job (
    {{columns}},
    state, token, attempts, crashes, conflicts, cancel_requested, enqueued_at, errors
)
SELECT
    {{given}},
    'ready', 0, 0, 0, 0, FALSE, {NOW}, '[]'
FROM json_each(%s)
WHERE true
{{or_skip}}
"""  # noqa: S608 - fixed names


@cache
def insert(columns: tuple[str, ...], *, or_skip: bool) -> str:
    """Return the statement for jobs that are given as one JSON document."""
    given = [f"json_extract(value, '$[{number}]')" for number in range(len(columns))]
    run_after = columns.index("run_after")
    given[run_after] = f"COALESCE({given[run_after]}, {NOW})"
    return INSERT.format(
        columns=", ".join(columns),
        given=", ".join(given),
        or_skip="ON CONFLICT DO NOTHING" if or_skip else "",
    )


# SQLite uses a partial index only if the statement repeats its condition, word for word. Django
# writes "claimable" there, and since 6.1 "claimable" = 1.
CLAIMABLE = "job.claimable AND job.claimable = 1"
# A column of SQLite can hold a value of any type. A row without an id cannot be written by it.
IS_ID = "length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*'"
NUMBERS = {"token", "attempts", "crashes", "conflicts", "max_attempts", "priority"}
# Moments as well: Django has a converter for the type of their columns, which may raise.
TEXTS = {"task_path", "payload", "errors", "backend", "queue", "tags", "headers", *MOMENTS}
TYPES = dict.fromkeys(NUMBERS, "INTEGER") | dict.fromkeys(TEXTS, "TEXT")
RETURNED = [f"CAST({one} AS {TYPES[one]})" if one in TYPES else one for one in CLAIMED]
DUE_HEAD = f"WHERE head.run_after <= {NOW}"
# The state as well: see ``Table._claimable``.
DUE = f"""
SELECT id
FROM aftercommit_job AS job
WHERE {CLAIMABLE} AND backend = %s AND queue = %s AND priority = %s
  AND run_after <= {NOW} AND state = 'ready' AND {IS_ID} {{chosen}}
ORDER BY run_after, id
LIMIT %s
"""  # noqa: S608
NAMED = f"""
SELECT id
FROM aftercommit_job AS job
WHERE {CLAIMABLE} AND queue = %s AND run_after <= {NOW} AND state = 'ready' AND {IS_ID} {{chosen}}
ORDER BY priority DESC, run_after, id
LIMIT %s
"""  # noqa: S608
CLAIM = f"""
UPDATE aftercommit_job
SET state = 'running', claimable = FALSE,
    token = MIN(CAST(token AS INTEGER), {LARGEST_TOKEN - 1}) + 1,
    attempts = MIN(CAST(attempts AS INTEGER), {LARGEST_COUNT - 1}) + 1,
    worker_id = %s{{slot}}, claimed_at = {NOW}, started_at = COALESCE(started_at, {NOW}),
    unique_lock = CASE WHEN unique_until_started THEN NULL ELSE unique_lock END
WHERE state = 'ready' AND id IN ({{due}}) {{which}}
RETURNING {", ".join(RETURNED)}
"""  # noqa: S608
WITHOUT_LIMIT = "AND limit_key IS NULL"
LEASE = """
INSERT INTO aftercommit_lease (id, worker_id, lease_until, jobs)
VALUES (%s, %s, STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'NOW', %s), %s)
"""
HELD = """
aftercommit_job.id IN (
    SELECT held.key FROM aftercommit_lease, json_each(IIF(json_valid(jobs), jobs, '{}')) AS held
    UNION ALL
    SELECT id FROM aftercommit_job WHERE lease_until IS NOT NULL
)
"""

SUCCEED = f"""
UPDATE aftercommit_job
SET state = 'succeeded', result = json_extract(ended.value, '$[2]'), finished_at = {NOW},
    lease_until = NULL, slot = NULL, unique_lock = NULL
FROM json_each(%s) AS ended
WHERE aftercommit_job.id = json_extract(ended.value, '$[0]')
  AND aftercommit_job.token = json_extract(ended.value, '$[1]')
  AND aftercommit_job.state = 'running'
RETURNING aftercommit_job.id, aftercommit_job.needed
"""  # noqa: S608

# How deep the groups are; see ``Measuring.depths_sql``.
DEPTHS = (
    "(SELECT COUNT(*) FROM (SELECT 1 FROM {group} AND job.run_after <= (SELECT {now})"
    " ORDER BY job.run_after LIMIT {most}))",
    "(SELECT COUNT(*) FROM (SELECT 1 FROM {group} ORDER BY job.run_after LIMIT {most}))",
    "",
)
