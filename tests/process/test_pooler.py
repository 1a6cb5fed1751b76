"""Workers behind a pooler in transaction mode, with session locks on."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import connection

from aftercommit.models import Job, WorkerPresence
from tests.app.chores import plain
from tests.process.rig import STARTED
from tests.store.pooler import transaction_pooler
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(settings.DATABASE_KIND != "postgres", reason="of PostgreSQL")
LOOKS = 3  # writes of a worker's row; the workers look at each other far more often meanwhile


@pytest.fixture
def pooled(rig) -> Iterator[Any]:
    """Return a rig whose workers connect through a pooler that they share."""
    address = connection.settings_dict["HOST"], connection.settings_dict["PORT"]
    with transaction_pooler(*address, own_numbers=True, shared=True) as port:
        changed = {"HOST": "127.0.0.1", "PORT": str(port), "DISABLE_SERVER_SIDE_CURSORS": True}
        rig.settings_module(f"DATABASES['default'].update({changed})")
        rig.settings(lease=6, heartbeat=1)
        yield rig
        rig.close()


def test_nobody_is_taken_for_dead_and_leases_take_over(pooled):
    workers = [pooled.worker("--threads", "2") for _number in range(3)]
    jobs = [pooled.enqueue(plain, str(number), gate="go") for number in range(6)]
    pooled.wait_note("begin", times=6)
    for _number in range(LOOKS):
        wait_until_all_have_looked()

    assert not Job.objects.filter(crashes__gt=0)
    assert len(pooled.notes("begin")) == 6
    # Not all at their start: by chance, a worker's first statements may have had one session.
    wait_until(
        lambda: not WorkerPresence.objects.filter(locked=True),
        deadline=STARTED,
        why="all have noticed the pooler",
    )
    for worker in workers:
        assert worker.output.count("WARNING Database 'default' is behind a pooler") == 1

    dead = pooled.children(workers[0])[0]
    workers[0].signal_all(signal.SIGKILL)
    pooled.wait_rescued(2)
    pooled.open_gate("go")
    pooled.wait_quiet()

    killed = {one["key"] for one in pooled.notes("begin", pid=dead)}
    found = {job.args[0]: job for job in map(pooled.job, jobs)}
    assert {job.state for job in found.values()} == {"succeeded"}
    assert {key for key, job in found.items() if job.crashes} == killed


def wait_until_all_have_looked() -> None:
    """Wait until each worker has written that it is alive, as it does about once a second."""
    before = dict(WorkerPresence.objects.values_list("id", "seen_at"))
    wait_until(
        lambda: all(
            seen > before.get(one, seen)
            for one, seen in WorkerPresence.objects.values_list("id", "seen_at")
        ),
        deadline=STARTED,
        why="all have looked",
    )
