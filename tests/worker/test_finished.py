"""``task_finished``: once for each job that has ended, whoever ends it, and never too early."""

from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from aftercommit import deschedule, jobs, schedule
from aftercommit._compat import TaskResultStatus, task_finished, tasks_signals
from aftercommit.enqueue.finished import send_finished
from aftercommit.models import Job, Lease, State
from aftercommit.options.conf import BackendOptions
from aftercommit.options.worker import WorkerConfig
from aftercommit.store.blame import DEATHS_FOR_EACH_BLAME
from aftercommit.worker.config import served
from aftercommit.worker.in_flight import InFlight
from aftercommit.worker.processes.orphans import Orphans
from tests.app.tasks import add
from tests.store.callers import statements
from tests.worker.rig import AT_ONCE, LEASE, commits

pytestmark = commits

MOST_CRASHES = BackendOptions().max_crashes * DEATHS_FOR_EACH_BLAME
A_RUN = timedelta(seconds=7)


class Ear:
    """Keeps what ``task_finished`` has said."""

    def __init__(self):
        self.said = []

    def __call__(self, task_result, **_):
        self.said.append(task_result)

    @property
    def ends(self):
        """Return the jobs that it was said of, each with its state and duration."""
        return [(one.id, one.state, one.duration) for one in self.said]


@pytest.fixture
def ear():
    """Return an ear on ``task_finished``."""
    ear = Ear()
    task_finished.connect(ear)
    yield ear
    task_finished.disconnect(ear)


def fail(context):
    raise ValueError


def run(rig, body, **options):
    """Run a job as a thread of the pool does, for as long as ``A_RUN``; return it."""
    one = rig.hold(rig.claim(rig.enqueue(body, **options)))
    one.end(rig.execute_run(one), took=A_RUN.total_seconds())
    rig.finisher.write()
    return rig.job(one.claim.job_id)


def silent_worker(rig, *, crashes, body=fail):
    """Return a job of a worker that has fallen silent, which this is the last but so many."""
    rig.worker_id = uuid4()
    job_id = rig.enqueue(body)
    rig.claim(job_id, lease=-LEASE)
    Job.objects.filter(pk=job_id).update(crashes=crashes, attempts=crashes + 1)
    return job_id


def rescue(rig):
    """Let the rescuer of a worker do what it does once leases may be judged."""
    rig.rooms.rescuer._rescue(set(), silent=True)


@pytest.mark.parametrize(
    ("body", "state"), [(lambda context: 1, State.SUCCEEDED), (fail, State.FAILED)]
)
@pytest.mark.parametrize("atomic", [False, True])
def test_by_its_own_run(rig, ear, body, state, atomic):
    job = run(rig, body, atomic=atomic, max_attempts=1)

    assert ear.ends == [(str(job.pk), state, A_RUN)]


def test_a_run_that_will_be_repeated_is_none(rig, ear):
    job = run(rig, fail, max_attempts=2)

    assert job.state == State.READY
    assert ear.ends == []


def test_by_a_cancellation_while_it_waits(ear):
    ids = [add.enqueue(1, 2).id for _ in range(3)]

    jobs.cancel(ids, using="default")

    assert sorted(ear.ends) == sorted((one, State.CANCELLED, None) for one in ids)
    assert {one.status for one in ear.said} == {TaskResultStatus.FAILED}


def test_a_cancellation_that_was_only_asked_for_is_told_when_the_run_has_ended(rig, ear):
    one = rig.hold(rig.claim(rig.enqueue(fail, max_attempts=2, backoff=AT_ONCE)))

    answer = jobs.cancel([one.claim.job_id], using="default")

    assert (answer.requested, ear.ends) == ({one.claim.job_id}, [])
    one.end(rig.execute_run(one), took=A_RUN.total_seconds())
    rig.finisher.write()
    assert ear.ends == [(str(one.claim.job_id), State.CANCELLED, A_RUN)]


def test_a_second_cancellation_ends_nothing_and_tells_nothing(ear):
    job_id = add.enqueue(1, 2).id

    for _ in range(2):
        jobs.cancel([job_id], using="default")

    assert len(ear.ends) == 1


def test_a_cancellation_in_a_transaction_is_told_after_the_commit(ear):
    job_id = add.enqueue(1, 2).id

    with transaction.atomic():
        jobs.cancel([job_id], using="default")
        assert ear.ends == []

    assert ear.ends == [(job_id, State.CANCELLED, None)]


def test_a_cancellation_that_is_rolled_back_is_never_told(ear):
    job_id = add.enqueue(1, 2).id

    with transaction.atomic():
        jobs.cancel([job_id], using="default")
        transaction.set_rollback(True)

    assert Job.objects.get().state == State.READY
    assert ear.ends == []


def test_by_deschedule(ear):
    ids = [schedule("tests.app.chores.scheduled", ["key"]).id for _ in range(2)]
    schedule("tests.app.chores.scheduled", ["another"])

    with transaction.atomic():
        assert deschedule("tests.app.chores.scheduled", ["key"]) == 2
        assert ear.ends == []

    assert sorted(ear.ends) == sorted((one, State.CANCELLED, None) for one in ids)


def test_a_rescued_job_that_is_ready_again_is_none(rig, ear):
    job_id = silent_worker(rig, crashes=0)

    rescue(rig)

    assert rig.job(job_id).state == State.READY
    assert ear.ends == []


def test_by_a_rescue_from_a_worker_that_was_to_cancel_it(rig, ear):
    job_id = silent_worker(rig, crashes=0)
    jobs.cancel([job_id], using="default")

    rescue(rig)

    assert ear.ends == [(str(job_id), State.CANCELLED, None)]


def test_by_the_quarantine_of_a_job_that_has_killed_too_many_workers(rig, ear):
    job_id = silent_worker(rig, crashes=MOST_CRASHES - 1)

    rescue(rig)

    assert ear.ends == [(str(job_id), State.FAILED, None)]  # nobody knows how long it ran
    assert ear.said[0].errors[-1].exception_class_path == "aftercommit.errors.WorkerDied"


def test_by_the_parent_of_a_process_that_died_before_it_began(rig, ear):
    """Its jobs are released; one that was to be cancelled ends by that."""
    cancelled, released = [rig.claim(rig.enqueue(fail)).job_id for _ in "12"]
    jobs.cancel([cancelled], using="default")
    board = InFlight(bytearray(InFlight.size(1)))
    board.sign(rig.worker_id)

    orphans = Orphans(served(WorkerConfig(backends=("default",))))
    orphans(SimpleNamespace(board=board, own_death=None))
    orphans.settle()

    assert rig.job(released).state == State.READY
    assert ear.ends == [(str(cancelled), State.CANCELLED, None)]


def test_by_a_worker_that_cannot_run_it(rig, ear, monkeypatch):
    """It has claimed the job just before the cancellation, and releases it."""
    job_id = rig.enqueue(fail)
    monkeypatch.setattr(rig.rooms.fetcher, "_facts_of", cancelled_meanwhile)

    assert rig.rooms.fetcher.fetch(limit=1) == []

    assert ear.ends == [(str(job_id), State.CANCELLED, None)]


def cancelled_meanwhile(claim):
    """Cancel a job that is claimed already; nothing is known of its task."""
    jobs.cancel([claim.job_id], using="default")


def test_by_flush_queue_each_of_its_runs(flush_queue, ear):
    ids = [add.enqueue(1, number).id for number in range(3)]

    assert flush_queue() == 3

    assert sorted(one[:2] for one in ear.ends) == sorted((one, State.SUCCEEDED) for one in ids)
    assert all(timedelta(0) < duration < A_RUN for _id, _state, duration in ear.ends)


def test_by_flush_queue_those_of_dead_workers(rig, flush_queue, ear):
    """It rescues as every worker does, and tells of it."""
    job_id = silent_worker(rig, crashes=MOST_CRASHES - 1)
    Lease.objects.update(lease_until=Job.objects.get().enqueued_at + LEASE * 100)
    rig.store.workers.announce(rig.worker_id, locked=True)

    assert flush_queue() == 0

    assert ear.ends == [(str(job_id), State.FAILED, None)]


def test_in_a_transaction_that_django_does_not_know_nothing_is_said_and_all_is_written(ear):
    job_id = UUID(add.enqueue(1, 2).id)

    transaction.set_autocommit(False)
    try:
        assert jobs.cancel([job_id], using="default").cancelled == {job_id}
        transaction.commit()
    finally:
        transaction.set_autocommit(True)

    assert Job.objects.get(pk=job_id).state == State.CANCELLED
    assert ear.ends == []


def test_of_many_that_are_cancelled_each_is_told_and_few_statements_read_them(ear, store):
    ids = [UUID(add.enqueue(1, 2).id) for _number in range(20)]
    answer = store.cancel(ids)

    with statements() as sent:
        send_finished(store, answer.ended)

    assert {said for said, _state, _duration in ear.ends} == set(map(str, ids))
    assert len(sent) == 1


def test_where_nobody_listens_nothing_is_read(monkeypatch, store):
    monkeypatch.setattr(tasks_signals.logger, "disabled", True)
    monkeypatch.setattr(task_finished, "receivers", [])  # other tests may have left some
    ids = [add.enqueue(1, 2).id, add.enqueue(1, 2).id]

    with statements() as without:
        jobs.cancel(ids[:1], using="default")
    with statements() as of_the_store_alone:
        store.cancel(ids[1:])

    assert len(without) == len(of_the_store_alone)
