"""Which session locks of workers are free, on PostgreSQL."""

# The locks are taken in shared mode, until the end of the statement: two rescuers do not block
# each other. A session may take a lock in shared mode that it holds itself: behind a pooler in
# transaction mode this may be the session that holds the lock of a living worker.
IS_FREE = """
pg_try_advisory_xact_lock_shared(worker.key) AND NOT EXISTS (
    SELECT FROM pg_locks
    WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 1
      AND classid = (worker.key >> 32)::oid AND objid = (worker.key & 4294967295)::oid
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
)
"""
FREE_LOCKS = f"""
SELECT worker.id FROM unnest(%(ids)s::uuid[], %(keys)s::bigint[]) AS worker (id, key)
WHERE {IS_FREE}
"""  # noqa: S608 - fixed names
# One round trip for all three: an idle worker asks this more often than anything else.
LOOK = f"""
SELECT clock_timestamp(), worker.id, {IS_FREE}
FROM (SELECT) AS here LEFT JOIN (
    SELECT id, ('x' || right(replace(id::text, '-', ''), 16))::bit(64)::bigint
        & 9223372036854775807 AS key
    FROM aftercommit_workerpresence WHERE locked AND id <> %(worker_id)s
) AS worker ON true
"""  # noqa: S608 - fixed names
