"""The database server breaks off, crashes or is away: workers come back by themselves."""

import signal
from collections.abc import Iterator
from datetime import timedelta
from itertools import product
from threading import Event

import pytest
from django.db import connection  # noqa: F401 - read by the condition below

from aftercommit.models import Job
from aftercommit.worker.upkeep.loop import LONGEST_WAIT
from tests.app.chores import KINDS, plain
from tests.process.cluster import Cluster, own_cluster, rig_on
from tests.process.conftest import seed_of_this_test
from tests.process.rig import Rig
from tests.services import NoServer
from tests.tiers import size
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif("connection.vendor != 'postgresql'")

JOBS = 300
CRASHES = size(change=3, full=5)
LEASE = 1.5  # seconds
LONG_LEASE = 5.0  # seconds, more than twice what a worker needs to come back
LONG = timedelta(minutes=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Return a server that belongs to the tests of this file."""
    try:
        with own_cluster() as cluster:
            yield cluster
    except NoServer as error:
        pytest.skip(str(error))


@pytest.fixture
def torn(cluster, tmp_path, django_db_blocker) -> Iterator[Rig]:
    """Return a rig whose database may be harmed."""
    with (
        django_db_blocker.unblock(),
        rig_on(cluster, tmp_path, seed=seed_of_this_test()) as rig,
    ):
        rig.settings(lease=LEASE, heartbeat=LEASE / 4, max_crashes=1000)
        yield rig


def test_cut_connections_lose_and_double_nothing(torn, cluster):
    keys = enqueue_of_all_kinds(torn)
    for _number in range(2):
        torn.worker(ready=False)
    torn.wait_note("begin")

    cut = rounds = 0
    while torn.open_jobs():
        cut += cluster.terminate_half(torn.random.randrange(1000))
        rounds += 1
        if rounds > 25:  # each of these cut a half of all that there were
            torn.wait_quiet(LONG)
        Event().wait(0.3)  # the rhythm of the fault

    report = torn.check(committed=keys)
    print(f"{cut} connections cut in {rounds} rounds")
    assert not report.violations
    assert cut >= 50
    assert conflicts(torn) > 0


def test_a_server_that_crashes_again_and_again_loses_and_doubles_nothing(torn, cluster):
    keys = enqueue_of_all_kinds(torn)
    workers = [torn.worker(ready=False) for _number in range(2)]
    for times in range(CRASHES):
        torn.wait_note("begin", times=times * 30 + 1)
        wait_until(lambda: any(map(torn.busy, workers)), deadline=LONG)
        cluster.crash()
        cluster.start()

    torn.wait_quiet(LONG)

    report = torn.check(committed=keys)
    assert not report.violations
    assert len(torn.notes("begin")) > JOBS  # some runs were broken off
    assert not any(worker.ended for worker in workers)
    # No process was replaced. One more may have started for a job with a crash: a claim whose
    # answer was lost is rescued when its lease ends.
    assert not any("A worker process" in worker.output for worker in workers)
    more = len(torn.notes("worker_started")) - len(workers)
    assert more <= (len(workers) if report.crashes else 0)


def test_after_an_outage_no_healthy_job_is_rescued(torn, cluster):
    """The first worker that comes back must not judge the one that comes back later."""
    torn.settings(lease=LONG_LEASE, heartbeat=LONG_LEASE / 4)
    queues = ("first", "last")
    first, last = (torn.worker("--queues", queue) for queue in queues)
    keys = []
    for kind, queue in product(KINDS[::2], queues):  # not atomic: it ends with its connection
        keys.append(f"{kind.name} {queue}")
        torn.enqueue(kind.using(queue_name=queue), keys[-1], gate="go")
    torn.wait_note("begin", times=len(keys))

    last.signal_all(signal.SIGSTOP)
    cluster.crash()
    torn.wait_note("database_away", tree=first.pid)
    Event().wait(LONG_LEASE)  # nobody can renew anything
    cluster.start()
    torn.wait_note("database_back", tree=first.pid)
    Event().wait(LONGEST_WAIT.total_seconds())  # it has looked around meanwhile
    last.signal_all(signal.SIGCONT)
    torn.wait_note("database_back", tree=last.pid)
    Event().wait(1.5 * LONG_LEASE)  # in which everybody may be judged again
    torn.enqueue(plain.using(queue_name="first"), "after")
    torn.open_gate("go")
    torn.wait_quiet(LONG)

    report = torn.check(committed=[*keys, "after"])
    assert not report.violations
    assert (report.claims, report.crashes, len(torn.notes("rescued"))) == (5, 0, 0)


def test_a_worker_that_dies_during_an_outage_is_missed_afterwards(torn, cluster):
    victim = torn.worker()
    torn.enqueue(plain, "one", gate="go")
    torn.wait_note("begin")
    heir = torn.worker()

    cluster.crash()
    victim.kill()
    torn.wait_note("database_away", tree=heir.pid)
    cluster.start()
    torn.wait_note("begin", tree=heir.pid)
    torn.open_gate("go")
    torn.wait_quiet(LONG)

    report = torn.check(committed=["one"])
    assert (report.violations, report.crashes) == ([], 1)


def enqueue_of_all_kinds(rig: Rig) -> list[str]:
    """Enqueue jobs that last a little, and return their keys."""
    keys = [f"{kind.name}-{number}" for kind in KINDS for number in range(JOBS // len(KINDS))]
    for kind in KINDS:
        mine = [key for key in keys if key.startswith(kind.name)]
        rig.enqueue_many(kind, [((key,), {"lasting": 0.1}) for key in mine])
    return keys


def conflicts(rig: Rig) -> int:
    """Return how many runs the database has broken off."""
    return sum(Job.objects.using(rig.using).values_list("conflicts", flat=True))
