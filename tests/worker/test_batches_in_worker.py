"""Batches in a worker: how they become full, what they hold up, and how they are broken off."""

import asyncio
import threading
from collections import Counter
from datetime import timedelta

import pytest

from aftercommit import Cancel, jobs
from aftercommit.errors import TimedOut
from aftercommit.models import Job, State
from aftercommit.options.worker import WorkerConfig
from aftercommit.worker import inline
from aftercommit.worker.claiming.batch_queues import BatchQueues
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.running import timeouts
from aftercommit.worker.worker import REPLACE_ME, Worker
from tests.app.models import Effect
from tests.waiting import wait_until
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

DEADLINE = 30  # seconds
received = []  # the arguments of each call
bodies = {}  # by name, what functions of this module do


def collect(calls):
    """Note what a call has received, and do what the test says."""
    received.append([call.args[0] for call in calls])
    return bodies["collect"](calls) if "collect" in bodies else None


async def acollect(calls):
    """Do the same in a coroutine."""
    await asyncio.sleep(0)
    return collect(calls)


def write(calls):
    """Leave one effect for each job."""
    received.append([call.args[0] for call in calls])
    Effect.objects.bulk_create([Effect(key=str(call.args[0])) for call in calls])


def tenants(calls):
    """Note whose jobs a call has received."""
    received.append([call.kwargs["tenant"] for call in calls])


def plain(number):
    """Note what a plain job has received."""
    received.append(number)


@pytest.fixture(autouse=True)
def _nothing_received():
    received.clear()
    bodies.clear()


@pytest.fixture
def running(request):
    """Return a function that runs a worker in another thread, until the test ends."""
    started = []

    def run(**options):
        worker = Worker(WorkerConfig(**options), quota=RunQuota(None))
        thread = threading.Thread(target=worker.run)
        thread.start()
        started.append((worker, thread))
        return worker

    yield run
    for worker, thread in started:
        worker.stop()
        thread.join(DEADLINE)
        assert not thread.is_alive()


def all_received():
    return sorted(number for call in received for number in call)


def states():
    return Counter(Job.objects.values_list("state", flat=True))


def test_a_queue_of_batches_is_run_by_full_ones(declare):
    declare(collect, batch_size=100).enqueue_many([(number,) for number in range(450)])

    assert work(threads=2) == 0

    assert all_received() == list(range(450))
    assert len(received) <= 10  # of which the first are as small as the first claims
    assert states() == {State.SUCCEEDED: 450}


@pytest.mark.parametrize("threads", [1, 4])
def test_effects_of_atomic_batches_are_there_once(declare, threads):
    declare(write, batch_size=64, atomic=True).enqueue_many([(n,) for n in range(300)])

    work(threads=threads)

    assert Counter(Effect.objects.values_list("key", flat=True)) == {
        str(n): 1 for n in range(300)
    }
    assert states() == {State.SUCCEEDED: 300}
    assert len(received) < 30


def test_async_batches_are_run_on_the_event_loop(declare):
    count = declare(acollect, batch_size=50)
    ids = count.enqueue_many([(number,) for number in range(120)])
    bodies["collect"] = lambda calls: [call.args[0] * 2 for call in calls]

    work(threads=2)

    assert all_received() == list(range(120))
    assert len(received) < 20
    assert [count.get_result(job_id).return_value for job_id in ids[:3]] == [0, 2, 4]


def test_an_async_batch_that_raises_is_retried_in_less_company(declare):
    declare(acollect, batch_size=64, backoff=timedelta(0)).enqueue_many([(n,) for n in range(64)])

    def fail_if_bad(calls):
        if 7 in [call.args[0] for call in calls] and len(calls) > 1:
            raise ValueError

    bodies["collect"] = fail_if_bad

    work(threads=1)

    assert states() == {State.SUCCEEDED: 64}
    assert [7] in received


def test_plain_jobs_between_batches_are_run_as_ever(declare):
    batch, single = declare(collect, batch_size=20), declare(plain)
    for number in range(60):
        batch.enqueue(number)
        single.enqueue(number)

    work(threads=2)

    assert sorted(one for one in received if isinstance(one, int)) == list(range(60))
    assert sorted(n for one in received if isinstance(one, list) for n in one) == list(range(60))
    assert states() == {State.SUCCEEDED: 120}


def test_a_batch_waits_for_more_jobs_and_holds_up_no_others(declare, running):
    batch = declare(collect, batch_size=3, batch_wait=timedelta(seconds=10))
    single = declare(plain)
    running(threads=1)
    batch.enqueue(1)
    wait_until(lambda: states()[State.RUNNING] == 1)

    single.enqueue(100)  # by the only thread
    wait_until(lambda: received == [100])
    batch.enqueue_many([(2,), (3,)])

    wait_until(lambda: states() == {State.SUCCEEDED: 4})
    assert sorted(received[1]) == [1, 2, 3]


def test_a_batch_that_does_not_become_full_is_run_after_its_wait(declare):
    declare(collect, batch_size=3, batch_wait=timedelta(milliseconds=50)).enqueue(1)

    work(threads=1)

    assert received == [[1]]


def test_a_worker_that_stops_gives_back_what_waits_for_its_batch(declare, running):
    declare(collect, batch_size=3, batch_wait=timedelta(seconds=10)).enqueue(1)
    worker = running(threads=1)
    wait_until(lambda: states()[State.RUNNING] == 1)

    worker.stop()

    wait_until(lambda: states() == {State.READY: 1})
    assert (received, Job.objects.get().attempts) == ([], 0)


def test_a_batch_that_takes_too_long_is_interrupted_for_all(declare):
    declare(
        collect, batch_size=8, timeout=timedelta(milliseconds=100), max_attempts=1
    ).enqueue_many([(number,) for number in range(5)])
    bodies["collect"] = lambda _calls: wait_until(lambda: False)

    work(threads=1)

    assert states() == {State.FAILED: 5}
    errors = [job.error_list[0]["exception_class_path"] for job in Job.objects.all()]
    assert errors == [f"{TimedOut.__module__}.TimedOut"] * 5


def test_a_batch_that_does_not_react_is_given_up_for_all(declare, monkeypatch):
    monkeypatch.setattr(timeouts, "PATIENCE", timedelta(milliseconds=100))
    over = threading.Event()
    declare(
        collect,
        batch_size=3,
        batch_wait=timedelta(seconds=5),
        timeout=timedelta(milliseconds=100),
        max_attempts=1,
    ).enqueue_many([(number,) for number in range(3)])
    bodies["collect"] = lambda _calls: over.wait(DEADLINE)

    try:
        assert work(threads=1) == REPLACE_ME
    finally:
        over.set()

    assert len(received) == 1
    assert states() == {State.FAILED: 3}


def test_one_that_is_cancelled_while_its_batch_runs_is_told_and_the_others_go_on(
    declare, running
):
    begun, cancelled = threading.Event(), threading.Event()

    def body(calls):
        begun.set()
        assert cancelled.wait(DEADLINE)
        wait_until(lambda: any(call.cancelled for call in calls))
        for call in calls:
            if call.cancelled:
                call.fail(Cancel())

    bodies["collect"] = body
    ids = declare(collect, batch_size=8, batch_wait=timedelta(milliseconds=500)).enqueue_many(
        [(number,) for number in range(3)]
    )
    running(threads=1)
    assert begun.wait(DEADLINE)
    jobs.cancel(Job.objects.filter(id=ids[1]).values_list("id", flat=True), using="default")
    cancelled.set()

    wait_until(lambda: states()[State.RUNNING] == 0)
    assert states() == {State.SUCCEEDED: 2, State.CANCELLED: 1}


def test_a_rate_counts_the_jobs_of_a_batch(declare):
    declare(collect, batch_size=100, rate="10/h", burst=10).enqueue_many(
        [(n,) for n in range(25)]
    )

    work(threads=1)

    assert sum(map(len, received)) == 10
    assert states() == {State.SUCCEEDED: 10, State.READY: 15}


def test_fair_batches_take_turns_of_tenants(declare):
    batch = declare(tenants, batch_size=10, fair_by=("tenant",))
    batch.enqueue_many([{"tenant": 1, "n": n} for n in range(30)])
    batch.enqueue_many([{"tenant": 2, "n": n} for n in range(3)])

    work(threads=1)

    assert sum(map(len, received)) == 33
    assert 2 in [tenant for call in received[: len(received) // 2 + 1] for tenant in call]


def test_jobs_of_another_kind_in_a_queue_of_batches_are_not_lost(declare, monkeypatch):
    monkeypatch.setattr(BatchQueues, "size", lambda _self, _queue: 100)  # expected, and wrong
    monkeypatch.setattr(BatchQueues, "largest", 100)
    declare(plain).enqueue_many([(number,) for number in range(150)])

    work(threads=1)

    assert sorted(received) == list(range(150))
    assert states() == {State.SUCCEEDED: 150}


# ---- flush_queue -----------------------------------------------------------------------


def test_flush_queue_runs_full_batches(declare, flush_queue):
    declare(collect, batch_size=40).enqueue_many([(number,) for number in range(100)])
    declare(plain).enqueue(1000)

    assert flush_queue() == 101

    assert sorted(map(str, received), key=len)[0] == "1000"
    assert sorted(len(one) for one in received if isinstance(one, list)) == [20, 40, 40]
    assert states() == {State.SUCCEEDED: 101}


def test_flush_queue_finds_the_jobs_of_a_batch_between_others(declare, flush_queue, monkeypatch):
    monkeypatch.setattr(inline, "ROWS_AT_A_TIME", 3)
    batch, other = declare(collect, batch_size=10), declare(plain)
    for number in range(10):
        batch.enqueue(number)
        other.enqueue(1000 + number)

    assert flush_queue() == 20

    assert [one for one in received if isinstance(one, list)] == [list(range(10))]


def test_flush_queue_runs_atomic_batches_once(declare, flush_queue):
    declare(write, batch_size=40, atomic=True).enqueue_many([(n,) for n in range(50)])

    assert flush_queue() == 50

    assert Counter(Effect.objects.values_list("key", flat=True)) == {str(n): 1 for n in range(50)}


def test_flush_queue_runs_what_has_failed_before_alone(declare, flush_queue):
    bad = declare(collect, batch_size=10, backoff=timedelta(0))
    bad.enqueue_many([(number,) for number in range(5)])

    def fail_if_bad(calls):
        if 3 in [call.args[0] for call in calls]:
            raise ValueError

    bodies["collect"] = fail_if_bad

    flush_queue()

    assert states() == {State.SUCCEEDED: 4, State.FAILED: 1}
