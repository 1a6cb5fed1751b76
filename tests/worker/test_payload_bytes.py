"""Memory: how many bytes of arguments and results a process holds at once."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit import enqueue_many, task
from aftercommit.models import Job, State
from aftercommit.options.worker import WorkerConfig
from aftercommit.values import ClaimQuery, Failed, Retry, RunError, RunResult, Succeeded
from aftercommit.worker.alias import AliasWorker
from aftercommit.worker.claiming import payloads
from aftercommit.worker.claiming.payloads import MOST_BYTES, PayloadBudget
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.upkeep import finisher as finisher_module
from aftercommit.worker.upkeep.finisher import size_of
from aftercommit.worker.worker import Worker
from tests.worker.rig import LEASE, QUEUE, commits

MIB = 1024 * 1024
SIZE = 20_000
THREADS = 2


def test_as_many_as_fit():
    budget = PayloadBudget(threads=4)
    assert budget.jobs([]) == MOST_BYTES  # nothing is known
    budget.claimed([100, MIB])
    assert budget.jobs([]) == 64
    assert budget.jobs([MIB] * 60) == 4
    assert budget.jobs([MIB] * 64) == 0


def test_one_for_each_thread_always_fits():
    budget = PayloadBudget(threads=4)
    budget.claimed([100 * MIB])
    assert [budget.jobs([100 * MIB] * held) for held in range(6)] == [4, 3, 2, 1, 0, 0]


def test_large_ones_are_forgotten_with_time():
    budget = PayloadBudget(threads=1)
    budget.claimed([MIB])
    for _number in range(100):
        budget.claimed([100])
    assert budget.jobs([]) > 10_000
    budget.claimed([])
    assert budget.jobs([]) > 10_000


@task(takes_context=True)
def echo(context, text):
    """Return as much as it was given."""
    return text


@commits
def test_a_worker_holds_no_more_than_that(transactional_db, settings, monkeypatch):
    settings.TASKS = {"default": settings.TASKS["default"]}
    most = 20 * SIZE
    monkeypatch.setattr(payloads, "MOST_BYTES", most)
    enqueue_many(echo, [("x" * SIZE,)] * 300)
    held = []
    ended = AliasWorker.ended

    def note(self, ends):
        ended(self, ends)
        held.append(sum(one.size for one in self.runs.all()))

    monkeypatch.setattr(AliasWorker, "ended", note)

    config = WorkerConfig(drain=True, threads=THREADS)
    assert Worker(config, quota=RunQuota(None)).run() == 0

    assert Job.objects.filter(state=State.SUCCEEDED).count() == 300
    print(f"{max(held):,} of {most:,} bytes")
    # While a job is run its result comes on top of its arguments.
    assert 5 * SIZE < max(held) <= 2 * most + 2 * THREADS * SIZE


@commits
def test_a_batch_of_outcomes_is_bounded(rig, monkeypatch):
    monkeypatch.setattr(finisher_module, "LARGEST_WRITE", 3 * SIZE)
    claims = [rig.claim(rig.enqueue(lambda context: "x" * SIZE)) for _number in range(10)]
    for claim in claims:
        rig.put(claim, rig.execute(claim))
    batches = []
    real = rig.store.finish_many
    monkeypatch.setattr(
        rig.finisher._store, "finish_many", lambda ends: batches.append(len(ends)) or real(ends)
    )

    while rig.finisher.write():
        pass

    assert batches == [3, 3, 3, 1]
    assert {rig.job(one.job_id).state for one in claims} == {State.SUCCEEDED}


def test_sizes_of_outcomes():
    error = RunError(exception_class_path="a.B", traceback="x" * 7)
    sizes = [size_of(RunResult(outcome=one)) for one in (Succeeded("12345"), Failed(error))]
    assert sizes == [5, 7]
    assert size_of(RunResult(outcome=Retry(error))) == 7
    assert size_of(RunResult(outcome=Succeeded("12345"), recorded=True)) == 0


@commits
@pytest.mark.parametrize("number", [1, 9, 10, 11, 25])
def test_a_rescue_reads_no_payload(rig, number):
    ids = [rig.enqueue(lambda context: None) for _number in range(number)]
    claims = [rig.claim(one) for one in ids[:2]]
    claims += rig.store.claim(query_for(rig, limit=100))
    assert len(claims) == number

    with CaptureQueriesContext(connection) as queries:
        rescued = rig.store.rescue(max_crashes=3, dead_workers={rig.worker_id}, silent=False)

    assert {one.job_id for one in rescued} == set(ids)
    assert all(rig.job(one).state == State.READY for one in ids)
    reads = [one["sql"] for one in queries if "SELECT" in one["sql"]]
    assert reads
    assert not [sql for sql in reads if "payload" in sql or "result" in sql]


@commits
def test_a_rescue_stops_at_its_limit_and_goes_on(rig):
    ids = [rig.enqueue(lambda context: None) for _number in range(25)]
    rig.store.claim(query_for(rig, limit=100))

    numbers = [
        len(rig.store.rescue(max_crashes=3, dead_workers={rig.worker_id}, silent=False, limit=15))
        for _number in range(3)
    ]

    assert numbers == [15, 10, 0]
    assert all(rig.job(one).crashes == 1 for one in ids)


def query_for(rig, *, limit):
    return ClaimQuery(queue=QUEUE, limit=limit, worker_id=rig.worker_id, lease=LEASE)
