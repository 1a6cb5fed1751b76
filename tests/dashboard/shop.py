"""A database as a shop might have it, for the browser: jobs in all states, queues, statistics."""

import json
import math
import random
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

from django.db.models import F
from django.utils import timezone
from django.utils.http import urlencode

from aftercommit import group, queues, schedules, task
from aftercommit.guard.models import StoredFinding
from aftercommit.models import Job, LogLine, Progress, Schedule, Statistic, WorkerPresence
from aftercommit.relay.outbox import PUBLISH
from aftercommit.store import store_for
from aftercommit.store.statistics import Span
from aftercommit.tallies import Key, Tally
from aftercommit.version import VERSION
from tests.app.tasks import add
from tests.dashboard.failure import ERROR, WORKER
from tests.django.dashboard import HOSTILE, add_job, url

TASKS = [  # path, queue, arguments, jobs a minute, share that fails
    ("shop.payments.tasks.charge", "payments", {"args": [4711], "kwargs": {}}, 9, 0.05),
    ("shop.mail.send_receipt", "mail", {"args": [], "kwargs": {"user_id": 8812}}, 14, 0.01),
    ("reports.tasks.nightly", "reports", {"args": ["2026-11-29"], "kwargs": {}}, 1, 0),
    ("search.tasks.reindex", "default", {"args": [[1, 2, 3, 4]], "kwargs": {}}, 5, 0.02),
]
SHOWN = (
    *(path for path, *_more in TASKS),
    *(f"catalog.tasks.{name}" for name in ("fetch", "parse", "publish")),
    *("prices.refresh", "shop.tasks.sync_stock", "shop.tasks.clean_up"),
)
LISTS = ("overview", "jobs", "tasks", "queues", "schedules", "groups", "workers", "messages")
STATES = ["succeeded"] * 12 + ["failed"] * 3 + ["ready"] * 3 + ["running", "cancelled"]


def fill(*, jobs=60, hostile=True):
    """Fill the database; return the ids of a failed job, of a graph, and of a group."""
    chance, now = random.Random(4), timezone.now()
    failed = None
    for number in range(jobs):
        state = "failed" if number == jobs - 3 else chance.choice(STATES)
        job_id = _job(chance, state, now - timedelta(seconds=(jobs - number) * 37))
        failed = job_id if state == "failed" else failed
    if hostile:
        _hostile()
    _notes(failed, now)
    first, second = add.bind(1, 2), add.bind(3, 4)
    made = group([first, second, add.bind(first, second)], name="import").enqueue()
    last = Job.objects.filter(task_path=add.module_path).order_by("-id").first()
    _statistics(chance, now)
    _operated(now)
    _races(now)
    return SimpleNamespace(failed=failed, graph=last.pk, group=UUID(made.id))


def fill_for_show():
    """Fill the database as it looks well in a picture; return what ``fill`` does.

    It declares the tasks, so that no page complains of them: not for a process of tests.
    """
    for path in SHOWN:
        _declare(path)
    made = fill(hostile=False)
    graph = Job.objects.filter(task_path=add.module_path)
    first, second, last = graph.order_by("id").values_list("pk", flat=True)
    for job_id, name in ((first, "fetch"), (second, "parse"), (last, "publish")):
        Job.objects.filter(pk=job_id).update(task_path=f"catalog.tasks.{name}")
    Job.objects.filter(pk=first).update(state="succeeded", finished_at=F("run_after"))
    running = Job.objects.filter(state="running")
    now = timezone.now()
    for number, job_id in enumerate(running.values_list("pk", flat=True)):
        begin = now - timedelta(seconds=3 + 17 * number)
        running.filter(pk=job_id).update(claimed_at=begin, enqueued_at=begin, run_after=begin)
    for name, minutes in (("nightly report", 600), ("sync stock", -1), ("clean up", 45)):
        every = timedelta(hours=24 if minutes > 60 else 1)
        schedules.create(name, task=add.module_path, args=[1, 2], every=every)
        moment = now + timedelta(minutes=minutes if minutes > 0 else 20)
        Schedule.objects.filter(name=name).update(next_run=moment, last_run=moment - every)
    schedules.disable("clean up")
    tasks = {"refresh prices": "prices.refresh", "nightly report": "reports.tasks.nightly"}
    for row in Schedule.objects.all():
        path = tasks.get(row.name, f"shop.tasks.{row.name.replace(' ', '_')}")
        Schedule.objects.filter(pk=row.pk).update(task_path=path)
    made.schedule = "nightly report"
    return made


def shown_pages(made):
    """Return the pages that the documentation shows: a name for each, and its address."""
    return [
        *((name, url(name)) for name in LISTS),
        ("audit", url("audit")),
        ("job", url("job", job_id=made.failed)),
        ("copy", url("job-copy", job_id=made.failed)),
        ("graph", url("graph", job_id=made.graph)),
        ("group", url("group", group_id=made.group)),
        ("schedule", f"{url('schedule-edit')}?{urlencode({'name': made.schedule})}"),
    ]


def _declare(path):
    def body(*args, **kwargs):
        """Do nothing."""

    body.__module__, _dot, body.__name__ = path.rpartition(".")
    body.__qualname__ = body.__name__
    task(body)


def _job(chance, state, at):
    path, queue, call, _rate, _share = TASKS[0] if state == "failed" else chance.choice(TASKS)
    more = {"attempts": 1, "tags": ["eu"] if queue == "payments" else None}
    if state == "failed":
        more |= {"attempts": 2, "errors": json.dumps([_error(at, 0, 1.4), _error(at, 61, 2.3)])}
    if state == "succeeded":
        more["result"] = '{"sent": true}'
    job_id = add_job(state, task_path=path, queue=queue, payload=json.dumps(call), **more)
    moments = {"enqueued_at": at, "run_after": at}
    if state != "ready":
        begin = at + timedelta(seconds=chance.random() * 4)
        moments |= {"claimed_at": begin, "started_at": begin, "worker_id": WORKER}
        if state != "running":
            moments["finished_at"] = begin + timedelta(seconds=chance.random() * 9)
    Job.objects.filter(pk=job_id).update(**moments)
    return job_id


def _error(at, seconds, took):
    began = at + timedelta(seconds=seconds)
    return {**ERROR, "claimed_at": began.isoformat(), "took": took}


def _hostile():
    safe = HOSTILE.replace("\x00", "").replace("\x1b", "")
    errors = [{"exception_class_path": "x.<b>", "traceback": HOSTILE, "worker_id": "None"}]
    call = {"args": [HOSTILE, "long" * 1000], "kwargs": {}}
    add_job(
        "failed", task_path=safe, payload=json.dumps(call), errors=json.dumps(errors), tags=[safe]
    )


def _notes(job_id, now):
    Progress.objects.create(
        job_id=job_id, token=1, done=37, total=120, message="rows", changed_at=now
    )
    lines = [(20, "charging order 4711"), (30, "declined, trying again"), (40, "declined")]
    for level, message in lines:
        LogLine.objects.create(
            job_id=job_id,
            token=1,
            attempt=1,
            level=level,
            logger="shop.payments",
            message=message,
            logged_at=now,
        )


def _statistics(chance, now):
    minute = now.replace(second=0, microsecond=0)
    steps = [(Span.MINUTE, minute - timedelta(minutes=n), n / 7, 1) for n in range(62)]
    hour = minute.replace(minute=0)
    steps += [(Span.HOUR, hour - timedelta(hours=n), n / 4, 20) for n in range(26)]
    rows = []
    for path, queue, _call, rate, share in TASKS:
        for span, at, phase, times in steps:
            many = int(times * (rate * (1.2 + 0.6 * math.sin(phase)) + chance.randint(0, 2)))
            late = span == Span.MINUTE and at > minute - timedelta(minutes=12)
            bad = int(many * (0.45 if late and queue == "payments" else share))
            for outcome, number in (("succeeded", many - bad), ("failed", bad)):
                rows += [_statistic(chance, span, at, Key(path, queue, outcome), number)]
    Statistic.objects.bulk_create(rows)


def _statistic(chance, span, at, key, number):
    tally = Tally(jobs=number)
    for _ in range(number):
        tally.waits.add(chance.expovariate(12))
        tally.runs.add(chance.expovariate(2))
    return Statistic(
        id=uuid4(),
        span=span,
        began_at=at,
        **key._asdict(),
        jobs=number,
        waited=timedelta(seconds=tally.waits.seconds),
        ran=timedelta(seconds=tally.runs.seconds),
        waits=tally.waits.text,
        runs=tally.runs.text,
    )


def _races(now):
    """Store what the guard has found, with a name that nothing can break."""
    for number, subject in enumerate(("shop.tasks.send_receipt", "reports." + "nightly" * 30)):
        StoredFinding.objects.create(
            key=str(number),
            rule="AC101",
            adapter="celery",
            subject=subject,
            path="shop/services/orders/placing.py",
            line=14 + number,
            function="Orders.place_order",
            report="\n".join(
                [f"shop/services.py:14: {subject} is sent", "    Fix: " + "x" * 300]
            ),
            count=1234 - number,
            first_seen=now - timedelta(days=9),
            last_seen=now,
        )


def _operated(now):
    for pid, seen in ((4711, now), (88, now - timedelta(minutes=9))):
        WorkerPresence.objects.create(
            id=WORKER if pid == 4711 else uuid4(),
            host="worker-1.shop.internal",
            pid=pid,
            started_at=now - timedelta(hours=5),
            seen_at=seen,
            clock=seen,
            version=VERSION,
            threads=4,
            memory=(180 + pid % 97) * 1024**2,
        )
    queues.pause("reports", using="default", by="ann", why="the warehouse is being moved")
    queues.limit("mail", 4, using="default")
    every = timedelta(minutes=5)
    schedules.create("refresh prices", task=add.module_path, args=[1, 2], every=every)
    Schedule.objects.update(next_run=now - timedelta(minutes=9), last_run=now, missed=2)
    meta = {"name": "shop.tasks.invoice", "message_id": "m1"}
    add_job(task_path=PUBLISH, queue="relay.celery", meta=meta, payload="{}")
    add_job("failed", task_path=PUBLISH, queue="relay.celery", meta=meta, payload="{}")
    store = store_for("default")
    store.record_action("pause", by="ann", user_id="1", subject="queue reports")
    store.record_action("cancel", by="bob", user_id="2", details={"filter": "state=ready"})
