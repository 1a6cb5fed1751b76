"""Fills the tables as a busy site would have them after 60 days; for ``benchmarks.probes``.

Of the jobs 97 % have succeeded, 1 % have failed with a traceback, some were cancelled, 1 % are
due, among the newest, 0.5 % are for later, a tenth of these to be retried, and some run. They are
of 200 tasks, in 1,000 queues, of which two have half of the jobs.
"""

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from tests.dashboard.failure import ERROR, WORKER

DAYS = timedelta(days=60)
TASKS, QUEUES = 200, 1000
ONE_INSERT = 100_000
RUNNING, WORKERS, GROUPS, OF_GROUP, ACTIONS, SCHEDULES = 32, 8, 500, 20, 50_000, 200
TEN = " UNION ALL ".join(f"SELECT {one} AS n" for one in range(10))
BIG = 10**10  # of eight bytes, and so are the products
NUMBERS = f"""(
    SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 10000 * e.n + {{first}} + {BIG} - {BIG} AS i
    FROM ({TEN}) AS a, ({TEN}) AS b, ({TEN}) AS c, ({TEN}) AS d, ({TEN}) AS e
) AS numbers"""
FILL = f"""
INSERT INTO aftercommit_job (
    id, task_path, payload, meta, backend, queue, priority, state, claimable, unsuccessful,
    run_after, enqueued_at, claimed_at, started_at, finished_at, worker_id, token, attempts,
    crashes, conflicts, max_attempts, cancel_requested, unique_until_started, result, errors, tags
)
SELECT
    {{id}}, {{path}}, {{payload}}, %s, 'default', queue, priority,
    CASE WHEN kind IN ('due', 'later', 'retrying') THEN 'ready' ELSE kind END,
    kind IN ('due', 'later', 'retrying'), kind IN ('failed', 'cancelled'),
    CASE WHEN kind IN ('later', 'retrying') THEN {{later}} ELSE {{at}} END, {{at}},
    CASE WHEN kind NOT IN ('due', 'later') THEN {{claimed}} END,
    CASE WHEN kind NOT IN ('due', 'later') THEN {{claimed}} END,
    CASE WHEN kind IN ('succeeded', 'failed', 'cancelled') THEN {{ended}} END,
    CASE WHEN kind IN ('succeeded', 'failed') THEN {{worker}} END,
    CASE WHEN kind IN ('due', 'later') THEN 0 ELSE 1 END,
    CASE WHEN kind IN ('due', 'later') THEN 0 ELSE 1 END,
    0, 0, 5, FALSE, FALSE,
    CASE WHEN kind = 'succeeded' THEN %s END,
    CASE WHEN kind IN ('failed', 'retrying') THEN %s ELSE '[]' END,
    CASE WHEN i %% 50 = 1 THEN '["eu"]' END
FROM (
    SELECT i, {{first_ms}} + i * {{step_ms}} AS ms,
        CASE
            WHEN i %% 10 < 3 THEN 'default' WHEN i %% 10 < 5 THEN 'mail' ELSE {{queue}}
        END AS queue,
        CASE WHEN i %% 30 = 0 THEN 10 ELSE 0 END AS priority,
        CASE
            WHEN i > {{due_from}} AND i %% 2 = 0 THEN 'due'
            WHEN i %% 2000 = 7 THEN 'retrying'
            WHEN i %% 200 = 7 THEN 'later'
            WHEN i %% 97 = 0 THEN 'failed'
            WHEN i %% 1999 = 0 THEN 'cancelled'
            ELSE 'succeeded'
        END AS kind
    FROM {NUMBERS} WHERE i <= {{rows}} ORDER BY i
) AS given
"""
MOMENTS = {
    "postgresql": "to_timestamp(({}) / 1000.0)",
    "mysql": "'1970-01-01' + INTERVAL 1000 * ({}) MICROSECOND",
    "sqlite": "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', ({}) / 1000.0, 'unixepoch')",
}
IDS = {
    "postgresql": "(lpad(to_hex((ms)::bigint), 12, '0') || '70008'"
    " || lpad(to_hex(i), 15, '0'))::uuid",
    "mysql": "LOWER(CONCAT(LPAD(HEX(ms), 12, '0'), '70008', LPAD(HEX(i), 15, '0')))",
    "sqlite": "printf('%%012x70008%%015x', ms, i)",
}
AFTERWARDS = {
    "postgresql": "VACUUM ANALYZE",
    "mysql": "ANALYZE TABLE aftercommit_job, aftercommit_statistic, aftercommit_member",
    "sqlite": "SELECT 'most databases are never analysed'",
}


def fill(rows: int) -> None:
    """Fill the usual database of Django, and let its planner know."""
    from django.db import connection  # noqa: PLC0415 - once Django is set up

    now = datetime.now(UTC)
    now_ms = int(now.timestamp() * 1000)
    step = int(DAYS / timedelta(milliseconds=1)) // rows
    words = _words(connection.vendor, now_ms)
    words |= {"first_ms": now_ms - rows * step, "step_ms": step}
    words |= {"rows": rows, "due_from": rows - rows // 50}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET synchronous_commit = off")
        for first in range(1, rows + 1, ONE_INSERT):
            sql = FILL.format(**words, first=first)
            cursor.execute(sql, ["{}", '{"sent": true}', json.dumps([ERROR])])
        _others(now)
        cursor.execute(AFTERWARDS[connection.vendor])


def _words(vendor: str, now_ms: int) -> dict[str, object]:
    def text(*parts: str) -> str:
        return f"CONCAT({', '.join(parts)})" if vendor == "mysql" else " || ".join(parts)

    def at(ms: str) -> str:
        return MOMENTS[vendor].format(ms)

    order = text("""'{"args":['""", "i", """'],"kwargs":{"order":"A-'""", "i", """'"}}'""")
    return {
        "id": IDS[vendor],
        "at": at("ms"),
        "later": at(f"{now_ms} + 60000 + i %% 864000 * 1000"),
        "claimed": at("ms + 200 + i %% 2000"),
        "ended": at("ms + 2300 + i %% 5000"),
        "path": text("'shop.tasks.task_'", f"i * 13 %% {TASKS}"),
        "queue": text("'queue '", f"i * 7 %% {QUEUES - 2}"),
        "payload": order,
        "worker": f"'{WORKER}'::uuid" if vendor == "postgresql" else f"'{WORKER.hex}'",
    }


def _others(now: datetime) -> None:
    """Fill the other tables: what runs, workers, statistics, groups, schedules, actions."""
    from aftercommit.models import (  # noqa: PLC0415  # noqa: PLC0415
        AuditRecord,
        Group,
        Job,
        Lease,
        Member,
        Schedule,
        Statistic,
        WorkerPresence,
    )

    due = list(Job.objects.filter(claimable=True).order_by("-id").values_list("id", flat=True))[
        : 2 * RUNNING
    ]
    running = Job.objects.filter(id__in=due[:RUNNING])
    running.update(
        state="running", claimable=False, token=1, attempts=1, worker_id=WORKER, claimed_at=now
    )
    Job.objects.filter(id__in=due[RUNNING:]).update(queue="relay.celery")
    held = json.dumps({str(one): 1 for one in due[:RUNNING]})
    until = now + timedelta(days=1)
    Lease.objects.create(id=WORKER, worker_id=WORKER, lease_until=until, jobs=held)
    WorkerPresence.objects.bulk_create(
        WorkerPresence(
            id=UUID(int=WORKER.int + number),
            **{"host": f"worker-{number}", "pid": 4711, "threads": 8, "memory": 2**28},
            **{"started_at": now, "seen_at": until, "clock": until, "version": "0.2"},
        )
        for number in range(WORKERS)
    )
    Statistic.objects.bulk_create(_statistics(now), batch_size=1000)
    ended = Job.objects.order_by("-id").values_list("id", flat=True)[: GROUPS * OF_GROUP]
    groups = [Group(name=f"import {number}", created_at=now) for number in range(GROUPS)]
    Group.objects.bulk_create(groups, batch_size=1000)
    Member.objects.bulk_create(
        (
            Member(job_id=job_id, group_id=groups[number // OF_GROUP].id)
            for number, job_id in enumerate(ended)
        ),
        batch_size=1000,
    )
    Schedule.objects.bulk_create(
        Schedule(
            **{"name": f"every {number} minutes", "source": "people", "created_at": now},
            **{"task_path": f"shop.tasks.task_{number}", "changed_at": now},
            every=timedelta(minutes=number + 1),
            next_run=now + timedelta(minutes=number + 1),
        )
        for number in range(SCHEDULES)
    )
    AuditRecord.objects.bulk_create(
        (
            AuditRecord(
                **{"at": now - timedelta(minutes=number), "user_id": number % 5 + 1},
                **{"by": f"user {number % 5}", "action": "retry", "found": 1, "changed": 1},
            )
            for number in range(ACTIONS)
        ),
        batch_size=1000,
    )


def _statistics(now: datetime) -> Iterator[object]:
    """Yield what workers have counted: about a hundred rows a minute, all keys in each hour."""
    from aftercommit.models import Statistic  # noqa: PLC0415
    from aftercommit.tallies import Key  # noqa: PLC0415

    chance = random.Random(4)
    names = ("default", "mail", *(f"queue {number}" for number in range(8)))
    keys = [
        Key(f"shop.tasks.task_{number}", queue, outcome)
        for outcome in ("succeeded", "failed")
        for number in range(TASKS)
        for queue in chance.sample(names, 3)
    ]
    often = keys[: len(keys) * 11 // 20]  # few of those that have failed
    minute = now.replace(second=0, microsecond=0)
    hour, one = minute.replace(minute=0), timedelta(minutes=1)
    steps = [
        ("minute", minute - number * one, chance.sample(often, 100), 1) for number in range(180)
    ]
    steps += [("hour", hour - number * 60 * one, often, 10) for number in range(190)]
    steps.append(("total", datetime(1970, 1, 1, tzinfo=UTC), keys, 10_000))
    tallies = {jobs: [_tally(chance, jobs) for _one in range(50)] for jobs in (1, 10, 10_000)}
    for span, began_at, some, jobs in steps:
        for key in some:
            tally = chance.choice(tallies[jobs])
            yield Statistic(
                **{"id": UUID(int=chance.getrandbits(128)), "span": span, "began_at": began_at},
                **key._asdict(),
                **{"jobs": jobs, "waits": tally.waits.text, "runs": tally.runs.text},
                waited=timedelta(seconds=tally.waits.seconds),
                ran=timedelta(seconds=tally.runs.seconds),
            )


def _tally(chance: random.Random, jobs: int) -> Any:
    from aftercommit.tallies import Tally  # noqa: PLC0415

    tally = Tally(jobs=jobs)
    for _one in range(min(jobs, 100)):
        tally.waits.add(chance.expovariate(12))
        tally.runs.add(chance.expovariate(2))
    return tally
