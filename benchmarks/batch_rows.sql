-- Three layouts of the jobs' table, for batch_rows.py. Each has the same columns and checks that
-- its states need; what differs is what a claim and an end write.

-- name: version 0.1
CREATE TABLE job (
    id uuid PRIMARY KEY, {columns}, worker_id uuid, lease_until timestamptz,
    CHECK ((state = 'running') = (lease_until IS NOT NULL)), {checks}
);
CREATE INDEX ON job (queue, priority DESC, run_after, id) WHERE state = 'ready';
CREATE INDEX ON job (lease_until) WHERE lease_until IS NOT NULL;
CREATE INDEX ON job (state, finished_at) WHERE finished_at IS NOT NULL;
{secondary}
-- name: version 0.1: claim
WITH due AS MATERIALIZED (
    SELECT id FROM job
    WHERE state = 'ready' AND queue = 'default' AND run_after <= statement_timestamp()
    ORDER BY priority DESC, run_after, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE job SET state = 'running', token = token + 1, attempts = attempts + 1,
    worker_id = %(worker)s, lease_until = clock_timestamp() + interval '1 minute',
    claimed_at = statement_timestamp(),
    started_at = COALESCE(started_at, statement_timestamp())
FROM due WHERE job.id = due.id
RETURNING NULL, job.id, {claimed}
-- name: version 0.1: end
WITH mine AS MATERIALIZED (
    SELECT ended.id, ended.token, ended.result, seen.state FROM {ended}
    CROSS JOIN LATERAL (
        SELECT state FROM job
        WHERE job.id = ended.id AND job.token = ended.token AND state = 'running' LIMIT 1
    ) AS seen
)
UPDATE job SET state = 'succeeded', result = mine.result, finished_at = statement_timestamp(),
    lease_until = NULL, slot = NULL, unique_lock = NULL
FROM mine WHERE job.id = mine.id AND job.token = mine.token AND job.state = mine.state
RETURNING job.id

-- name: hot
CREATE TABLE job (
    id uuid PRIMARY KEY, {columns}, claimable bool NOT NULL DEFAULT true, {checks}
) WITH (fillfactor = 50);
CREATE INDEX ON job (queue, priority DESC, run_after, id) WHERE claimable;
CREATE TABLE lease (
    id uuid PRIMARY KEY, worker_id uuid NOT NULL, lease_until timestamptz NOT NULL,
    jobs text NOT NULL
);
{secondary}
-- name: hot: claim
WITH due AS MATERIALIZED (
    SELECT id, token FROM job
    WHERE claimable AND queue = 'default' AND run_after <= statement_timestamp()
    ORDER BY priority DESC, run_after, id LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
), lease AS (
    INSERT INTO lease SELECT %(batch)s, %(worker)s, clock_timestamp() + interval '1 minute',
        json_object_agg(id, token + 1)::text
    FROM due HAVING count(*) > 0
)
UPDATE job SET state = 'running', claimable = false, token = job.token + 1,
    attempts = attempts + 1, claimed_at = statement_timestamp(),
    started_at = COALESCE(started_at, statement_timestamp())
FROM due WHERE job.id = due.id
RETURNING NULL, job.id, {claimed}
-- name: hot: end
WITH mine AS MATERIALIZED (
    SELECT ended.id, ended.token, ended.result, seen.state FROM {ended}
    CROSS JOIN LATERAL (
        SELECT state FROM job
        WHERE job.id = ended.id AND job.token = ended.token AND state = 'running' LIMIT 1
    ) AS seen
), over AS (
    DELETE FROM lease WHERE id = %(batch)s
)
UPDATE job SET state = 'succeeded', result = mine.result, finished_at = statement_timestamp(),
    slot = NULL, unique_lock = NULL
FROM mine WHERE job.id = mine.id AND job.token = mine.token AND job.state = mine.state
RETURNING job.id

-- A job has a place in the order of insertion; a lane (a queue and a priority) has a head, the
-- last place that was claimed. Places that a claim did not see may still be committed, so it keeps
-- the gaps, to be looked at again until no transaction of that time is left (not done here).
-- name: batches
CREATE TABLE job (
    id uuid PRIMARY KEY, place bigint GENERATED ALWAYS AS IDENTITY, {columns}, {checks}
);
CREATE INDEX ON job (queue, priority DESC, place);
CREATE TABLE head (
    queue varchar(100), priority smallint, place bigint NOT NULL, PRIMARY KEY (queue, priority)
) WITH (fillfactor = 10);
CREATE TABLE batch (
    id uuid PRIMARY KEY, queue varchar(100) NOT NULL, priority smallint NOT NULL,
    places int8range NOT NULL, gaps int8multirange NOT NULL, ids uuid[] NOT NULL,
    attempt int NOT NULL, worker_id uuid NOT NULL, claimed_at timestamptz NOT NULL,
    lease_until timestamptz, ended_at timestamptz, results text
) WITH (fillfactor = 50);
CREATE INDEX ON batch (queue, priority, lower(places));
CREATE INDEX ON batch (lease_until) WHERE lease_until IS NOT NULL;
INSERT INTO head VALUES ('default', 0, 0);
{secondary}
-- name: batches: claim
WITH head AS MATERIALIZED (
    SELECT * FROM head WHERE queue = 'default' AND priority = 0 FOR NO KEY UPDATE SKIP LOCKED
), due AS MATERIALIZED (
    SELECT job.* FROM head CROSS JOIN LATERAL (
        SELECT * FROM job
        WHERE job.queue = head.queue AND job.priority = head.priority AND job.place > head.place
        ORDER BY job.place LIMIT %(limit)s
    ) AS job
), seen AS MATERIALIZED (
    SELECT max(place) AS last, array_agg(id) AS ids,
        range_agg(int8range(place, place, '[]')) AS places
    FROM due HAVING count(*) > 0
), moved AS (
    UPDATE head AS old SET place = seen.last FROM seen, head
    WHERE old.queue = head.queue AND old.priority = head.priority
), taken AS (
    INSERT INTO batch SELECT %(batch)s, queue, priority, int8range(place, last, '(]'),
        int8multirange(int8range(place, last, '(]')) - places, ids, 1, %(worker)s,
        statement_timestamp(), clock_timestamp() + interval '1 minute'
    FROM head, seen
    RETURNING id
)
SELECT taken.id, job.id, {claimed} FROM due AS job, taken
-- name: batches: end
WITH ended AS (
    UPDATE batch SET ended_at = statement_timestamp(), lease_until = NULL, results = %(results)s
    WHERE id = %(batch)s AND ended_at IS NULL AND attempt = 1
    RETURNING ids
)
SELECT unnest(ids) FROM ended
