"""Who comes first in a claim of one job: choices that take turns do not coincide."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F

from aftercommit import task
from aftercommit.enqueue import registry
from aftercommit.models import Job
from aftercommit.store.clock import DatabaseNow
from aftercommit.worker.claiming.cursor import ClaimCursor
from tests.worker.rig import Rig, commits

pytestmark = commits

NUMBER = 60  # of each kind: more than are claimed
SPAN = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def tasks(monkeypatch, settings):
    """Give the tasks and two backends to one test."""
    ours = settings.TASKS["default"]
    options = {**ours.get("OPTIONS", {}), "age_priority": SPAN}
    settings.TASKS = {name: {**ours, "OPTIONS": options} for name in ("default", "second")}
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


def fair(tenant, number):
    """Take turns."""


def gated(tenant, number):
    """Take turns, under a limit."""


def plain(number):
    """Take none."""


def enqueue(function, call, *, queues, backend="default", priority=0, **options):
    """Enqueue jobs of a task in each of these queues."""
    declared = task(**options)(function)
    for queue in queues:
        of_queue = declared.using(queue_name=queue, backend=backend, priority=priority)
        of_queue.enqueue_many([call(number) for number in range(NUMBER)])


def counted(fetches, describe):
    """Return of what kinds the jobs are that so many claims of one job have got."""
    fetcher = Rig().rooms.fetcher
    claims = [one for _time in range(fetches) for one, _facts in fetcher.fetch(limit=1)]
    assert len(claims) == fetches
    return Counter(map(describe, claims))


def kind(claim):
    """Return the queue, the backend, the function and the priority of a claim."""
    return claim.queue, claim.backend, claim.task_path.rpartition(".")[2], claim.priority


@pytest.mark.parametrize("queues", [["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_fair_lines_gated_ones_and_plain_jobs_of_each_queue_start(queues):
    enqueue(fair, lambda number: ("t", number), queues=queues, fair_by=["tenant"])
    enqueue(gated, lambda number: ("t", number), queues=queues, fair_by=["tenant"], limit=1000)
    enqueue(plain, lambda number: (number,), queues=queues)

    found = counted(12 * len(queues), kind)

    assert len(found) == 3 * len(queues)
    assert min(found.values()) >= 2


@pytest.mark.parametrize("queues", [["a"], ["a", "b"], ["a", "b", "c", "d"]])
def test_old_and_urgent_jobs_of_each_queue_start(queues):
    enqueue(plain, lambda number: (number,), queues=queues, priority=0)
    Job.objects.update(run_after=DatabaseNow() - 60 * SPAN)
    enqueue(gated, lambda number: ("t", number), queues=queues, priority=5)

    found = counted(12 * len(queues), kind)

    assert len(found) == 2 * len(queues)
    assert min(found.values()) >= 4


@pytest.mark.parametrize("queues", [["a"], ["a", "b"]])
def test_jobs_of_each_backend_start_beside_fair_ones(queues, monkeypatch):
    # On PostgreSQL several claims go on where the one before has ended, in one backend.
    monkeypatch.setattr(ClaimCursor, "position", None)
    enqueue(fair, lambda number: ("t", number), queues=queues, fair_by=["tenant"])
    for backend in ("default", "second"):
        enqueue(plain, lambda number: (number,), queues=queues, backend=backend)
    Job.objects.update(run_after=F("run_after") - timedelta(seconds=1))

    found = counted(16 * len(queues), kind)

    assert len(found) == 3 * len(queues)
    assert min(found.values()) >= 2
