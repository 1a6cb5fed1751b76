"""Statistics: each end is counted once, in memory, and written with the heartbeat."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection

from aftercommit import Snooze, jobs
from aftercommit.models import Job, Statistic
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.store.statistics import BEGINNING
from aftercommit.tallies import OTHER
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.upkeep import statistics as module
from aftercommit.worker.worker import Worker
from tests.app import tasks
from tests.store.callers import statements
from tests.worker.rig import QUEUE, Rig, commits

pytestmark = commits

CALL = "tests.worker.rig.call"


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the counter, which a test moves."""
    clock = [1000.0]
    monkeypatch.setattr(module, "now", lambda: clock[0])
    return clock


def fail(context):
    """Raise an error."""
    raise ValueError("no")


def snooze(context):
    """Ask to run later."""
    raise Snooze(timedelta(hours=1))


def counted(rig):
    """Write what was counted, and return how many runs of each outcome there are."""
    rig.rooms.statistics.flush()
    found = jobs.statistics(queue=QUEUE)
    names = ("succeeded", "failed", "cancelled", "retried", "released", "rescued")
    return {name: getattr(found, name) for name in names if getattr(found, name)}


@pytest.mark.parametrize("atomic", [False, True])
def test_each_end_is_counted_by_its_outcome(rig, atomic):
    rig.run(lambda context: None, atomic=atomic)
    gone = rig.claim(rig.enqueue(lambda context: None, atomic=atomic, keep_result=None))
    rig.finish(gone, rig.execute(gone))
    job = rig.run(fail, atomic=atomic, max_attempts=2)
    rig.run_again(job.id)
    rig.run(snooze, atomic=atomic)

    assert counted(rig) == {"succeeded": 2, "retried": 1, "failed": 1, "released": 1}
    found = jobs.statistics(by="task")[CALL]
    assert found.ended == 3
    assert found.waits.count == 4  # a run that does not count adds no time
    assert found.failure_share == pytest.approx(1 / 3)


def test_waits_and_runs_are_counted_in_buckets(rig):
    job_id = rig.enqueue(lambda context: None)
    claim = rig.claim(job_id)
    claim = claim._replace(
        claimed_at=max(claim.run_after, claim.enqueued_at) + timedelta(seconds=3)
    )
    run = rig.hold(claim)
    result = rig.execute_run(run)
    run.took = 0.3
    rig.finisher.put(run, result)
    rig.finisher.write()

    rig.rooms.statistics.flush()

    found = jobs.statistics()
    assert (found.waits.count, found.runs.count) == (1, 1)
    assert found.waits.total == timedelta(seconds=3)
    assert found.runs.total == timedelta(seconds=0.3)
    assert timedelta(seconds=2.048) < found.waits.percentile(95) <= timedelta(seconds=4.096)
    assert timedelta(seconds=0.256) < found.runs.percentile(95) <= timedelta(seconds=0.512)


def test_a_run_whose_claim_was_lost_is_not_counted(rig):
    claim = rig.claim(rig.enqueue(lambda context: None))
    result = rig.execute(claim)
    rig.lose(claim)

    rig.finish(claim, result)

    assert rig.lost == [claim]
    assert counted(rig) == {"rescued": 1}


def test_a_rescue_is_counted_and_the_failure_that_it_may_be(rig):
    for most in (9, 1):
        claim = rig.claim(rig.enqueue(lambda context: None), lease=timedelta(minutes=-1))
        rig.store.rescue(max_crashes=most, blamed={claim.job_id: "killed"})

    assert counted(rig) == {"rescued": 2, "failed": 1}


def test_a_job_is_counted_by_the_name_of_its_task_under_whichever_it_is_stored(rig):
    for old in ("shop.before", "shop.before@2"):
        job_id = rig.enqueue(lambda context: None)
        Job.objects.filter(id=job_id).update(task_path=old)
        rig.run_again(job_id)
    claim = rig.claim(rig.enqueue(lambda context: None), lease=timedelta(minutes=-1))
    Job.objects.filter(id=claim.job_id).update(task_path=f"{CALL}@2")
    assert len(rig.store.rescue(max_crashes=9)) == 1

    rig.rooms.statistics.flush()

    assert {row.task_path for row in Statistic.objects.all()} == {CALL}


def test_the_number_of_names_is_bounded(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_TASKS", 0)
    monkeypatch.setattr(module, "MOST_QUEUES", 0)
    rig.run(lambda context: None)
    rig.rooms.statistics.flush()

    assert list(jobs.statistics(by="task")) == list(jobs.statistics(by="queue")) == [OTHER]


def test_what_is_of_no_task_or_queue_is_none_of_the_others_either(rig, monkeypatch):
    monkeypatch.setattr(module, "MOST_TASKS", 0)
    monkeypatch.setattr(module, "MOST_QUEUES", 0)
    rig.rooms.statistics.claimed(["mail", "reports"])
    rig.rooms.statistics.pruned(3)
    rig.rooms.statistics.ticked([timedelta(seconds=2)])
    rig.rooms.statistics.flush()

    rows = Statistic.objects.values_list("task_path", "queue", "outcome", "jobs")
    assert sorted(rows) == [
        ("", "", "pruned", 3),
        ("", "", "ticked", 1),
        ("", OTHER, "claimed", 2),
    ]


def test_nothing_is_counted_where_it_is_switched_off(transactional_db):
    rig = Rig(options=BackendOptions(statistics=False))
    rig.rooms.statistics.claimed([QUEUE])
    rig.run(lambda context: None)
    rig.close()

    assert counted(rig) == {}
    assert Statistic.objects.count() == 0


# ---- when it is written ---------------------------------------------------------------


def test_all_is_written_once_in_a_heartbeat_by_one_statement(rig, clock):
    counter = rig.rooms.statistics
    rig.run(lambda context: None)
    rig.run(fail, max_attempts=1)
    assert counter.step() == rig.options.heartbeat
    rig.run(lambda context: None)

    with statements() as sent:
        assert counter.step() == rig.options.heartbeat
        clock[0] += 4
        assert counter.step() == rig.options.heartbeat - timedelta(seconds=4)
    assert sent == []
    clock[0] += 6
    with statements() as sent:
        counter.step()
    assert len([one for one in sent if "aftercommit_statistic" in one[0]]) == 1
    assert jobs.statistics(queue=QUEUE).ended == 3


def test_without_ends_nothing_is_sent(rig):
    with statements() as sent:
        assert rig.rooms.statistics.step() == module.UNTIL_RUNG

    assert sent == []


def test_the_first_end_rings(rig):
    rung = []
    rig.rooms.statistics.ring = lambda: rung.append(1)
    rig.run(lambda context: None)
    rig.run(lambda context: None)

    assert rung == [1]


@pytest.mark.parametrize("committed", [True, False])
def test_a_flush_in_doubt_is_sent_again_and_counts_once(rig, clock, monkeypatch, committed):
    write = rig.store.write_statistics

    def lose_the_answer(rows):
        if committed:
            write(rows)
        raise OperationalError("the connection is lost")

    rig.run(lambda context: None)
    monkeypatch.setattr(rig.rooms.statistics._store, "write_statistics", lose_the_answer)
    with pytest.raises(OperationalError):
        rig.rooms.statistics.step()
    rig.run(lambda context: None)
    monkeypatch.undo()
    monkeypatch.setattr(module, "now", lambda: clock[0])

    assert rig.rooms.statistics.step() == rig.options.heartbeat
    assert jobs.statistics(queue=QUEUE).succeeded == 2


def test_a_flush_in_doubt_is_dropped_before_its_rows_may_be_folded(rig, clock, monkeypatch):
    def lose_the_answer(rows):
        raise OperationalError("the connection is lost")

    rig.run(lambda context: None)
    with monkeypatch.context() as broken:
        broken.setattr(rig.rooms.statistics._store, "write_statistics", lose_the_answer)
        with pytest.raises(OperationalError):
            rig.rooms.statistics.step()
    rig.run(lambda context: None)
    clock[0] += module.LONGEST_DOUBT + 1

    rig.rooms.statistics.step()

    assert jobs.statistics(queue=QUEUE).succeeded == 1
    clock[0] += 60
    rig.run(lambda context: None)
    rig.rooms.statistics.step()
    assert jobs.statistics(queue=QUEUE).succeeded == 2


def test_what_was_never_sent_is_kept_however_long_the_database_is_away(rig, clock, monkeypatch):
    def away():
        raise OperationalError("nobody is there")

    rig.run(lambda context: None)
    with monkeypatch.context() as broken:
        broken.setattr(connection, "ensure_connection", away)
        for _time in range(3):
            with pytest.raises(OperationalError):
                rig.rooms.statistics.step()
            clock[0] += module.LONGEST_DOUBT
    rig.rooms.statistics.step()

    assert jobs.statistics(queue=QUEUE).succeeded == 1


# ---- every kind of worker -------------------------------------------------------------


def test_a_worker_writes_all_it_has_counted_when_it_ends(one_backend, transactional_db):
    for number in range(20):
        tasks.add.enqueue(number, 1)

    Worker(WorkerConfig(drain=True, threads=2), quota=RunQuota(None)).run()

    found = jobs.statistics(by="task")[tasks.add.module_path]
    assert (found.succeeded, found.runs.count, found.waits.count) == (20, 20, 20)
    assert jobs.statistics().claimed == jobs.statistics(by="queue")["default"].claimed == 20
    assert not [one for one in threading.enumerate() if "statistics" in one.name]


def test_an_inline_worker_counts_and_folds(flush_queue):
    for number in range(3):
        tasks.add.enqueue(number, 1)
    assert flush_queue() == 3
    Statistic.objects.update(began_at=BEGINNING)
    tasks.add.enqueue(9, 1)

    assert flush_queue() == 1

    found = jobs.totals()
    assert found[tasks.add.module_path, "default"].succeeded == 4
    assert found["", "default"].claimed == 4
    assert Statistic.objects.filter(span="total", jobs=3).count() == 2
