"""The SQL statements of ``PostgreSQLGrants``; see ``limits_sql`` for how values are sent."""

from aftercommit.options.rate import RATE_LINE
from aftercommit.store.columns import CLAIMED
from aftercommit.store.postgresql.limits_sql import (
    KEYS,
    LOCK,
    MOST_KEYS,
    STANDING_STILL,
    WITHOUT_LOCKS,
)

# A statement with many keys may be so dear by its estimate that the server would compile it,
# which takes longer than to execute it.
UNCOMPILED = """set_config(
    'jit', CASE WHEN %(longest)s::text IS NULL THEN current_setting('jit') ELSE 'off' END, true
)"""
# With the rate keys as well, and where the rows are: to look them up by their ids takes longer.
TO_GRANT = tuple(
    (locking, reading.replace("limit_key", "limit_key, rate_key, ctid AS tid"))
    for locking, reading in WITHOUT_LOCKS
)
# Which keys the first due jobs have, those of the first jobs locked; a row for each task, with
# its keys in one text: this process sends them back as it has got them.
SURVEY = f"""{{due}}, found AS MATERIALIZED (
    SELECT limit_key, MIN(task_path COLLATE "C") AS path,
        MAX(task_path COLLATE "C") AS last_path, COUNT(*) AS jobs,
        COUNT(*) FILTER (WHERE rate_key = limit_key) AS rated, MIN(number) AS first
    FROM (SELECT *, row_number() OVER () AS number FROM due) AS numbered
    GROUP BY limit_key
), tried AS MATERIALIZED (
    SELECT limit_key, {LOCK.format(key="limit_key")} AS held
    FROM (
        SELECT limit_key FROM found WHERE limit_key IS NOT NULL ORDER BY first LIMIT {MOST_KEYS}
    ) AS first, {STANDING_STILL}, {UNCOMPILED} AS jit
)
SELECT path, bool_and(limit_key IS NOT NULL AND path = last_path), bool_and(rated = jobs),
    SUM(jobs)::int, COALESCE(SUM(jobs) FILTER (WHERE held), 0)::int,
    COUNT(*) FILTER (WHERE held), json_agg(limit_key) FILTER (WHERE held)::text,
    array_agg(jobs) FILTER (WHERE held)::text, json_agg(limit_key) FILTER (WHERE NOT held)::text,
    COUNT(*) FILTER (WHERE held IS NULL)
FROM found LEFT JOIN tried USING (limit_key)
GROUP BY path
"""  # noqa: S608
# The same jobs as SURVEY has seen, but for those that have changed since. Each key without a line
# gives its free slots to its first jobs. As many as have slots are locked; to lock all that are
# read would hide them from claims of others. A key that is not limited (``most`` is NULL) has no
# slots: the end of a run without one is a HOT update.
# OFFSET 0: the planner would execute the subqueries again for each column that names them.
GRANT = """{due}, given AS MATERIALIZED (
    SELECT seen.*, CASE WHEN NOT has_line THEN {room} END AS room,
        CASE WHEN cardinality(taken) > 20 THEN ARRAY(
            SELECT slot
            FROM generate_series(1, LEAST(most, cardinality(taken) + jobs)) AS slot
            LEFT JOIN unnest(taken) AS used ON used = slot
            WHERE used IS NULL
        ) WHEN cardinality(taken) > 0 THEN ARRAY(
            SELECT slot
            FROM generate_series(1, LEAST(most, cardinality(taken) + jobs)) AS slot
            WHERE slot <> ALL(taken)
        ) END AS free
    FROM (
        SELECT key, number, most, jobs, CASE WHEN most IS NULL THEN '{{}}'::int[] ELSE ARRAY(
            SELECT slot FROM aftercommit_job WHERE limit_key = key AND slot IS NOT NULL
        ) END AS taken, {has_line} AS has_line
        {tokens}
        OFFSET 0
    ) AS seen
), first AS MATERIALIZED (
    SELECT due.id, due.tid, due.limit_key, due.number, given.number AS of_key,
        row_number() OVER (PARTITION BY given.number ORDER BY due.number) AS place
    FROM (SELECT id, tid, limit_key, row_number() OVER () AS number FROM due) AS due
    JOIN given ON given.key = due.limit_key COLLATE "C"
    WHERE given.room IS NOT NULL
), granted AS MATERIALIZED (
    SELECT first.id, first.tid, first.limit_key, first.number,
        CASE WHEN given.most IS NOT NULL THEN COALESCE(given.free[place], place) END AS slot
    FROM first JOIN given ON given.number = first.of_key AND first.place <= given.room
    ORDER BY first.number LIMIT %(wanted)s
), locked AS MATERIALIZED (
    SELECT granted.id, granted.slot, job.tid
    FROM granted CROSS JOIN LATERAL (
        SELECT ctid AS tid FROM aftercommit_job
        WHERE ctid = granted.tid AND id = granted.id AND limit_key = granted.limit_key
          AND claimable AND blocked IS NULL AND state = 'ready'
          AND run_after <= statement_timestamp()
        LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED
    ) AS job
)
"""
WITH_GRANT = """, slot = locked.slot
    FROM locked
    WHERE job.id = locked.id AND job.ctid = ANY(ARRAY(SELECT tid FROM locked))
      AND job.state = 'ready'"""
ROOM = "LEAST(most - cardinality(taken), jobs)"
# Where no job has a place in a line, as is usual, not one look for each key.
HAS_LINE = """((
    SELECT true FROM aftercommit_job WHERE blocked = ANY('{0,1,2}'::smallint[]) LIMIT 1
) IS NOT NULL AND (
    SELECT true FROM aftercommit_job
    WHERE blocked = ANY('{0,1,2}'::smallint[]) AND limit_key = key LIMIT 1
) IS NOT NULL)"""
# A last row says how many of the keys need more than that, and which due job got the last slot.
OTHERS = f"""UNION ALL
SELECT NULL, (SELECT COUNT(*) FROM given WHERE has_line) + {{unpaid}},
    (SELECT COALESCE(MAX(number), 0) FROM granted), {", ".join(["NULL"] * (len(CLAIMED) - 2))}
"""  # noqa: S608
NO_TOKENS = f"""FROM ROWS FROM ({KEYS}, unnest(%(most)s::int[]), unnest(%(jobs)s::int[]))
            WITH ORDINALITY AS given (key, most, jobs, number)"""

# ---- with rates: the same arithmetic as ``gcra``, in whole microseconds ----------------------

MICROSECOND = "interval '1 microsecond'"
# ``ahead`` is NULL if more was used up than there is.
TOKENS = f""", every, every * burst AS span, CASE
            WHEN tat IS NULL OR tat <= statement_timestamp() THEN 0
            WHEN tat <= statement_timestamp() + every * burst * {MICROSECOND}
            THEN (EXTRACT(epoch FROM tat - statement_timestamp()) * 1000000)::bigint
        END AS ahead
        FROM ROWS FROM (
            {KEYS}, unnest(%(most)s::int[]), unnest(%(jobs)s::int[]),
            unnest(%(every)s::bigint[]), unnest(%(burst)s::int[])
        ) WITH ORDINALITY AS given (key, most, jobs, every, burst, number)
        LEFT JOIN LATERAL (
            SELECT tat, paused_until FROM aftercommit_rate WHERE key = given.key OFFSET 0
        ) AS rate ON every IS NOT NULL"""  # noqa: S608
TOKENS_LEFT = f"LEAST({ROOM}, (span - ahead) / every)"
# A pause, or a row that says too much: what comes of it is written by the other way.
HAS_RATE_LINE = f"""({HAS_LINE} OR every IS NOT NULL AND (
    COALESCE(paused_until > statement_timestamp(), false)
    OR COALESCE(tat > statement_timestamp() + every * burst * {MICROSECOND}, false)
    OR (SELECT true FROM aftercommit_job WHERE line > '{RATE_LINE}' LIMIT 1) IS NOT NULL
        AND (SELECT true FROM aftercommit_job WHERE line = key LIMIT 1) IS NOT NULL
))"""  # noqa: S608
# A locked job may have changed since the statement began, and is not claimed then.
CHARGED = f""", charged AS (
    INSERT INTO aftercommit_rate (key, tat)
    SELECT key, statement_timestamp() + (ahead + every * number_started) * {MICROSECOND}
    FROM (SELECT limit_key, COUNT(*) AS number_started FROM claimed GROUP BY limit_key) AS started
    JOIN given ON key = limit_key
    WHERE every IS NOT NULL
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET tat = EXCLUDED.tat
)"""  # noqa: S608
# Jobs without a token are parked by the other way.
UNPAID = """(
    SELECT COUNT(*) FROM first JOIN given ON given.number = first.of_key AND place > room
    WHERE every IS NOT NULL
)"""

OF_LIMITS = {"room": ROOM, "has_line": HAS_LINE, "tokens": NO_TOKENS}
OF_RATES = {"room": TOKENS_LEFT, "has_line": HAS_RATE_LINE, "tokens": TOKENS}
