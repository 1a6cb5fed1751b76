"""``flush_queue`` in this process: outcomes while the database is away, and what it leaves."""

import os
import threading
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import DatabaseError, OperationalError, connections
from django.db.backends.signals import connection_created

from aftercommit import events, task
from aftercommit._compat import task_finished
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job, Lease, State, WorkerPresence
from aftercommit.store.table import held_jobs
from aftercommit.worker import inline, inline_alias
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.share import Share
from tests import tiers
from tests.app.models import Effect
from tests.app.tasks import add, atomic_effect, plain_effect
from tests.store.given import new_job
from tests.waiting import wait_until
from tests.worker.rig import commits

pytestmark = commits

# 2,000 have been seen to work; what a call leaves behind shows at once.
TIMES = tiers.size(change=25, full=100)
A_MOMENT = timedelta(milliseconds=5)


# ---- a database that is away when an outcome is written -----------------------------------


class Away:
    """A database that takes no outcomes, so many times."""

    def __init__(self, monkeypatch, store, *, times=float("inf")):
        self.refused = 0
        kind = type(store)  # the command has a store of its own
        real_finish_many, real_answers = kind.finish_many, kind.answers

        def finish_many(store, ends):
            if self.refused < times:
                self.refused += 1
                raise OperationalError("the server does not answer")
            return real_finish_many(store, ends)

        def answers(store):
            return self.refused >= times and real_answers(store)

        monkeypatch.setattr(kind, "finish_many", finish_many)
        monkeypatch.setattr(kind, "answers", answers)
        monkeypatch.setattr(inline_alias, "UNTIL_DATABASE_IS_BACK", A_MOMENT)


@task(backoff=timedelta(hours=1))
def fail(text):
    """Fail; the next run is not due in this test, however slow the machine is."""
    raise ValueError(text)


@pytest.mark.parametrize(
    ("task", "args", "state"),
    [(plain_effect, ["key"], State.SUCCEEDED), (fail, ["no"], State.READY)],
    ids=["succeeds", "fails"],
)
def test_an_outcome_is_written_when_the_database_is_back(
    flush_queue, store, monkeypatch, task, args, state
):
    job_id = task.using(max_attempts=2).enqueue(*args).id
    last = add.enqueue(1, 2).id
    Job.objects.filter(pk=last).update(priority=-1)
    away = Away(monkeypatch, store, times=3)

    assert flush_queue(jobs=2) == 2  # it does not end, and goes on with the next

    assert away.refused == 3
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts, job.crashes) == (state, 1, 0)
    assert Job.objects.get(pk=last).state == State.SUCCEEDED
    assert Effect.objects.count() == (task is plain_effect)  # it was run once


def test_a_second_stop_ends_the_wait_and_the_lease_brings_the_job_back(
    transactional_db, settings, store, monkeypatch
):
    settings.TASKS = {"default": settings.TASKS["default"]}
    job_id = plain_effect.enqueue("key").id
    add.enqueue(1, 2)
    away = Away(monkeypatch, store)
    worker = InlineWorker()
    stops = []

    def stop_twice():
        wait_until(lambda: away.refused > 1)
        for _ in range(2):
            worker.stop()
            stops.append(away.refused)
            if len(stops) == 1:
                wait_until(lambda: away.refused > stops[0])  # the first ends nothing yet

    stopper = threading.Thread(target=stop_twice)
    stopper.start()
    count = worker.run()
    stopper.join()

    assert (count, len(stops)) == (1, 2)
    assert away.refused <= stops[-1] + 1
    job = Job.objects.get(pk=job_id)
    assert (job.state, job.attempts) == (State.RUNNING, 1)
    assert UUID(job_id) in held_jobs(Lease.objects.get())
    assert Job.objects.filter(state=State.READY).count() == 1


# ---- what it leaves behind ----------------------------------------------------------------


def left_behind():
    """Count what each call could leave in its process, and in the database."""
    connections.close_all()
    signals = [connection_created, task_finished, events.job_ended, events.job_rescued]
    connection = connections["default"]
    return {
        "receivers": sum(len(signal.receivers) for signal in signals),
        "execute_wrappers": sum(len(one.execute_wrappers) for one in connections.all()),
        "on_commit": len(connection.run_on_commit),
        "threads": threading.active_count(),
        "open files and connections": len(os.listdir("/dev/fd")),
        "workers": WorkerPresence.objects.count(),
        "lock files": lock_files(connection),
    }


def grown_since(before):
    """Return what there is more of."""
    return {name: count for name, count in left_behind().items() if count > before[name]}


def lock_files(connection):
    """Count what is beside an SQLite database."""
    if connection.vendor != "sqlite":
        return 0
    folder, name = os.path.split(connection.settings_dict["NAME"])
    beside = [os.path.join(folder, one) for one in os.listdir(folder) if one.startswith(name)]
    return sum(len(os.listdir(one)) for one in beside if os.path.isdir(one))


def test_any_number_of_them_in_one_process_leaves_nothing_behind(flush_queue):
    def flush():
        plain_effect.enqueue("key")
        atomic_effect.enqueue("key")
        assert flush_queue() == 2

    for _ in range(3):
        flush()
    before = left_behind()

    for _ in range(TIMES):
        flush()

    assert grown_since(before) == {}
    assert Effect.objects.count() == 2 * (TIMES + 3)


def test_one_that_ends_by_an_error_leaves_nothing_behind_either(flush_queue, store, monkeypatch):
    flush_queue()
    before = left_behind()

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "due", broken)
        with pytest.raises(DatabaseError):
            flush_queue()

    assert grown_since(before) == {}


def broken(*_, **__):
    """Raise what no wait helps against."""
    raise DatabaseError("no such column")


def test_it_can_be_used_while_a_worker_of_the_process_watches_its_connections(rig, flush_queue):
    """The watch of one does not end with that of the other."""
    rig.run(lambda context: None)
    watching = [len(one.execute_wrappers) for one in connections.all()]
    add.enqueue(1, 2)

    assert flush_queue() == 1

    assert [len(one.execute_wrappers) for one in connections.all()] == watching


# ---- jobs that were on a dead worker ------------------------------------------------------


class NoProcesses:
    """Stands for a system that starts no worker processes."""

    tried = 0

    def __init__(self, config, **_given):
        type(self).tried += 1
        raise ConfigurationError("no processes here")


def test_a_job_that_needs_a_process_and_gets_none_stops_no_other(
    flush_queue, monkeypatch, caplog
):
    monkeypatch.setattr(inline, "Supervisor", NoProcesses)
    monkeypatch.setattr(NoProcesses, "tried", 0)
    crashed, *others = [UUID(add.enqueue(number, 1).id) for number in range(4)]
    Job.objects.filter(pk=crashed).update(crashes=1)

    assert flush_queue() == 3

    assert {Job.objects.get(pk=one).state for one in others} == {State.SUCCEEDED}
    assert Job.objects.get(pk=crashed).state == State.READY
    assert NoProcesses.tried == 1
    assert str(crashed) in caplog.text


def test_no_process_is_started_for_a_task_that_nobody_knows(flush_queue, monkeypatch):
    monkeypatch.setattr(inline, "Supervisor", NoProcesses)
    monkeypatch.setattr(NoProcesses, "tried", 0)
    add.enqueue(1, 2)
    Job.objects.update(crashes=1, task_path="shop.tasks.gone")

    assert flush_queue() == 0
    assert NoProcesses.tried == 0


def test_a_lease_that_has_ended_is_deleted_once(settings, store, monkeypatch):
    settings.TASKS = {"default": settings.TASKS["default"]}
    kind = type(store)
    real_claim = kind.claim
    ended = []

    def claim(store, query):
        ended.extend(query.ended)
        return real_claim(store, query)

    monkeypatch.setattr(kind, "claim", claim)
    for number in range(5):
        add.enqueue(number, 1)

    assert InlineWorker().run() == 5

    assert len(ended) == len(set(ended)) == 4  # the heartbeat: the last
    assert not Lease.objects.exists()


@pytest.mark.parametrize("number", [0, -1, True, 1.5, "1", None, 10**40])
def test_a_share_and_a_limit_are_whole_numbers(number):
    for given in ({"which": number or -1}, {"outof": number}):
        with pytest.raises(ConfigurationError):
            Share(**given)
    if number is not None:
        with pytest.raises(ConfigurationError):
            InlineWorker(most=number)


def test_shares_are_counted_from_0_or_from_1():
    ids = [UUID(int=number) for number in range(6)]

    from_0 = [[one.int for one in ids if Share(which=n, outof=3).holds(one)] for n in range(3)]

    assert from_0 == [[0, 3], [1, 4], [2, 5]]
    assert [one for one in ids if Share(which=3, outof=3).holds(one)] == [ids[0], ids[3]]
    assert all(Share().holds(one) for one in ids)


# ---- jobs that this process cannot run -----------------------------------------------------


@pytest.mark.parametrize(
    "columns", [{"backend": "gone"}, {"task_path": "shop.tasks.gone"}], ids=str
)
def test_jobs_that_it_cannot_run_cost_little_and_hide_no_others(
    columns, flush_queue, store, monkeypatch
):
    monkeypatch.setattr(inline, "DUE_AT_A_TIME", 10)
    foreign = store.insert([new_job(priority=50) for _number in range(100)])
    Job.objects.filter(id__in=foreign).update(**columns)
    ours = store.insert([new_job(payload='{"args":[1,2],"kwargs":{}}') for _number in range(5)])
    looked_at = []
    job = type(store).job
    monkeypatch.setattr(
        type(store), "job", lambda store, job_id: looked_at.append(job_id) or job(store, job_id)
    )

    assert flush_queue() == 5

    assert not Job.objects.filter(id__in=ours).exclude(state=State.SUCCEEDED).exists()
    assert Job.objects.filter(id__in=foreign, state=State.READY, token=0).count() == 100
    assert len(set(looked_at) & set(foreign)) <= 10
