"""Pruner: which ended jobs go when, and how often a row that stays is read."""

import logging
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.utils import timezone

from aftercommit import events
from aftercommit.enqueue import retention as retention_module
from aftercommit.enqueue.retention import Retention
from aftercommit.errors import ArchiveFailed, ConfigurationError
from aftercommit.jobs.deleting import MOST_REFUSED
from aftercommit.log.lines import jobs_pruned
from aftercommit.models import AuditRecord, Job, Received, WorkerPresence
from aftercommit.options.conf import BackendOptions
from aftercommit.store.clock import ago
from aftercommit.values import Cancelled, Failed, Succeeded
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep import pruner as pruner_module
from aftercommit.worker.upkeep.pruner import (
    AUDIT_EVERY,
    BATCH,
    LAG,
    LOOK_EVERY,
    STEP,
    WHOLE_PASS_EVERY,
    Pruner,
    rest_after,
)
from tests.app import tasks
from tests.store.given import ERROR, claim_all, ready_jobs
from tests.store.test_prune import finished_ago
from tests.worker.rig import Rig, commits

pytestmark = commits

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ADD = tasks.add.module_path
STEPS = 50  # more than any test needs


@pytest.fixture
def clock(monkeypatch):
    """Return the clock of the pruner, which a test moves."""
    clock = [now()]
    monkeypatch.setattr(pruner_module, "now", lambda: clock[0])
    return clock


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """Let no task be declared, whatever other tests have left; return the list."""
    tasks, plain = [], retention_module.keep_of

    def keep_of(task, options):
        if task is stays_long:
            return retention_module.USUALLY_KEPT.changed_by(90 * DAY)
        return plain(task, options)

    monkeypatch.setattr(retention_module, "keep_of", keep_of)
    monkeypatch.setattr(retention_module, "declared_tasks", lambda: tasks)
    return tasks


def stays_long():
    """Stand for a task that some worker knows, and whose results are kept for ninety days."""


@pytest.fixture
def reads(monkeypatch, store):
    """Return how many rows each page has read that was not empty."""
    found, page = [], store.page

    def counted(**given):
        answer = page(**given)
        if answer.ended:
            found.append(len(answer.ended))
        return answer

    monkeypatch.setattr(store, "page", counted)
    return found


def pruner_of(store, clock, *, worker_id=None, **options):
    found = Pruner(
        store,
        Retention({"default": BackendOptions(**options)}),
        worker_id=worker_id or uuid4(),
        silence=HOUR,
    )
    clock[0] += LOOK_EVERY.total_seconds()  # it does not begin at once
    return found


def prune(pruner):
    """Let it work until it has nothing to do; return how many steps that took."""
    for number in range(1, STEPS):
        if pruner.step() == LOOK_EVERY:
            return number
    raise AssertionError("The pruner does not come to an end.")


def ended(store, outcome, age, *, count=1, **given):
    """Return jobs that were made and ended so long ago, in the order of their ids."""
    ready_jobs(store, count, **given)
    claims = claim_all(store)
    for claim in claims:
        store.finish(claim, outcome)
    return finished_ago([claim.job_id for claim in claims], age)


def announce(store, *workers):
    """Let workers have begun in this order."""
    for hours, one in enumerate(reversed(workers), 1):
        store.workers.announce(one, locked=False)
        WorkerPresence.objects.filter(id=one).update(started_at=ago(hours * HOUR))


def left():
    return set(Job.objects.values_list("id", flat=True))


def test_successes_go_after_seven_days_and_others_after_thirty(store, clock):
    outcomes = (Succeeded(), Failed(ERROR), Cancelled(None))
    ages = (6, 8, 29, 31)
    jobs = {(type(o), days): ended(store, o, days * DAY)[0] for o in outcomes for days in ages}
    ready_jobs(store, 1)

    prune(pruner_of(store, clock))

    assert {name for name, job_id in jobs.items() if job_id in left()} == {
        (Succeeded, 6),
        *((kind, days) for kind in (Failed, Cancelled) for days in (6, 8, 29)),
    }
    assert Job.objects.filter(state="ready").count() == 1


def test_a_task_and_a_backend_say_otherwise(store, clock, monkeypatch, declared):
    task = tasks.add
    monkeypatch.setattr(
        retention_module, "known_task", lambda path: task if path == ADD else None
    )
    declared += [task, stays_long]
    own = ended(store, Succeeded(), 3 * DAY)
    failed = ended(store, Failed(ERROR), 3 * DAY)
    unknown = ended(store, Succeeded(), 3 * DAY, task_path="gone.from.code")
    long_unknown = ended(store, Succeeded(), 999 * DAY, task_path="gone.from.code")
    foreign = ended(store, Succeeded(), 999 * DAY, backend="of another project")

    prune(pruner_of(store, clock, keep_result=DAY))

    assert left() == {*failed, *unknown, *long_unknown, *foreign}
    assert not left() & {*own}


def test_nothing_goes_if_the_backend_keeps_it_forever(store, clock):
    jobs = ended(store, Succeeded(), 999 * DAY) + ended(store, Failed(ERROR), 999 * DAY)

    prune(pruner_of(store, clock, keep_result="forever"))

    assert left() == {*jobs}


def test_a_row_that_should_have_gone_with_its_success_goes_after_a_day(store, clock):
    young, old = ended(store, Succeeded(), HOUR), ended(store, Succeeded(), 2 * DAY)

    prune(pruner_of(store, clock, keep_result=None))

    assert left() == {*young}
    assert not left() & {*old}


def test_rows_that_stay_are_read_once_and_not_again(store, clock, monkeypatch, reads):
    monkeypatch.setattr(pruner_module, "BATCH", 10)
    ended(store, Failed(ERROR), 20 * DAY, count=35)
    ended(store, Succeeded(), 10 * DAY, count=35)
    pruner = pruner_of(store, clock)

    prune(pruner)

    assert len(left()) == 35
    assert sum(reads) == 70
    ended(store, Succeeded(), 9 * DAY, count=5)
    for _minute in range(5):
        prune(pruner)
    assert sum(reads) == 75


def test_what_ended_long_after_it_was_made_is_found_by_the_whole_pass(store, clock, reads):
    stays, late = ended(store, Succeeded(), 40 * DAY, count=2)
    Job.objects.filter(id__in=[stays, late]).update(finished_at=ago(DAY))
    pruner = pruner_of(store, clock)
    prune(pruner)
    Job.objects.filter(id=late).update(finished_at=ago(8 * DAY))

    prune(pruner)
    assert left() == {stays, late}

    clock[0] += WHOLE_PASS_EVERY.total_seconds()
    prune(pruner)
    assert left() == {stays}
    assert sum(reads) == 4


def test_what_ended_soon_after_it_was_made_goes_at_the_first_look(store, clock):
    """The walk stays so far behind that the row's time is over when it is met."""
    pruner = pruner_of(store, clock)
    (job_id,) = ended(store, Succeeded(), 7 * DAY + LAG / 2)
    Job.objects.update(finished_at=ago(7 * DAY - LAG / 4))
    prune(pruner)
    assert left() == {job_id}

    # Half an hour later.
    later = UUID(int=job_id.int - (int(HOUR.total_seconds() * 1000) << 80))
    Job.objects.update(id=later, finished_at=ago(7 * DAY + LAG / 4))
    prune(pruner)

    assert left() == set()


# ---- the inbox ---------------------------------------------------------------------


def test_notes_of_the_inbox_are_kept_for_their_window(store, clock):
    for age, name in ((59, "known"), (61, "forgotten")):
        assert store.receive(message_id=name, consumer="shop.consume")
        Received.objects.filter(message_id=name).update(received_at=ago(age * DAY))

    prune(pruner_of(store, clock))

    assert not store.receive(message_id="known", consumer="shop.consume")  # a copy
    assert store.receive(message_id="forgotten", consumer="shop.consume")


def test_the_most_careful_backend_says_how_long_notes_are_kept(store, clock):
    retention = Retention(
        {"a": BackendOptions(keep_received=DAY), "b": BackendOptions(keep_received=9 * DAY)}
    )

    assert retention.of_messages() == 9 * DAY
    assert Retention({}).of_messages() == timedelta.max


def audited(*days):
    """Write a record of the audit for each age, the oldest first."""
    for age in days:
        AuditRecord.objects.create(at=ago(age * DAY), action=str(age))


def left_of_the_audit():
    return [int(one) for one in AuditRecord.objects.values_list("action", flat=True)]


def test_the_audit_is_kept_for_its_span_in_small_batches(store, clock, monkeypatch):
    monkeypatch.setattr(pruner_module, "BATCH", 2)
    audited(900, 800, 700, 600, 366, 364, 1)
    pruner = pruner_of(store, clock)

    assert prune(pruner) > 1
    assert left_of_the_audit() == [364, 1]

    AuditRecord.objects.update(at=ago(366 * DAY))
    prune(pruner)
    assert left_of_the_audit() == [364, 1]  # once an hour
    clock[0] += AUDIT_EVERY.total_seconds()
    prune(pruner)
    assert left_of_the_audit() == []


def test_the_most_careful_backend_says_how_long_the_audit_is_kept(store, clock):
    retention = Retention(
        {"a": BackendOptions(keep_audit=DAY), "b": BackendOptions(keep_audit=9 * DAY)}
    )

    assert retention.of_audit() == 9 * DAY
    assert Retention({"a": BackendOptions()}).of_audit() == 365 * DAY


# ---- archive -----------------------------------------------------------------------


def test_an_archive_that_is_away_is_asked_again_for_the_same_jobs(store, clock):
    jobs = ended(store, Succeeded(), 8 * DAY, count=3)
    got, away = [], [True]

    def archive(batch):
        if away:
            raise OSError("away")
        got.append(sorted(one.id for one in batch))

    pruner = pruner_of(store, clock, archive=archive)
    for _step in range(2):
        with pytest.raises(ArchiveFailed):
            pruner.step()
        assert left() == {*jobs}

    away.clear()
    prune(pruner)

    assert got == [sorted(jobs)]
    assert left() == set()


def test_an_archive_that_is_away_is_not_asked_for_each_job(store, clock):
    ended(store, Succeeded(), 8 * DAY, count=40)
    asked = []

    def archive(batch):
        asked.append(len(batch))
        raise OSError("away")

    with pytest.raises(ArchiveFailed):
        pruner_of(store, clock, archive=archive).step()

    assert asked.count(1) == MOST_REFUSED
    assert len(asked) < 12


def test_a_job_that_an_archive_refuses_stays_and_no_other(store, clock):
    """Nor do other spans, other archives and the inbox wait for it."""
    jobs = ended(store, Succeeded(), 8 * DAY, count=5)
    bad = jobs[2]
    failed = ended(store, Failed(ERROR), 31 * DAY)
    elsewhere = ended(store, Succeeded(), 8 * DAY, backend="plain")
    assert store.receive(message_id="old", consumer="shop.consume")
    Received.objects.update(received_at=ago(61 * DAY))

    def archive(batch):
        if bad in [one.id for one in batch]:
            raise ValueError("no such field")

    backends = {"default": BackendOptions(archive=archive), "plain": BackendOptions()}
    pruner = Pruner(store, Retention(backends), worker_id=uuid4(), silence=HOUR)
    clock[0] += LOOK_EVERY.total_seconds()
    with pytest.raises(ArchiveFailed, match="raised for 1 ended job"):
        pruner.step()

    assert left() == {bad}
    assert not left() & {*failed, *elsewhere}
    assert Received.objects.count() == 0
    prune(pruner)  # it is met again by the whole pass
    clock[0] += WHOLE_PASS_EVERY.total_seconds()
    with pytest.raises(ArchiveFailed):
        prune(pruner)


def test_an_archive_may_be_named_and_is_looked_up_at_the_start():
    named = Retention({"default": BackendOptions(archive="tests.tables.wipe")})

    assert named.archives
    for path, told in (
        ("tests.app.no", "cannot be imported"),
        ("tests.app.tasks.add", "is not a function"),
    ):
        with pytest.raises(ConfigurationError, match=f"archive: .*{told}"):
            Retention({"default": BackendOptions(archive=path)})


# ---- who, when, and what is told ---------------------------------------------------


def test_it_is_left_to_the_worker_that_began_first(store, clock):
    first, second = uuid4(), uuid4()
    announce(store, first, second)
    ended(store, Succeeded(), 8 * DAY)
    other = pruner_of(store, clock, worker_id=second)

    assert other.step() == LOOK_EVERY
    assert Job.objects.count() == 1

    prune(pruner_of(store, clock, worker_id=first))
    assert Job.objects.count() == 0


def test_another_one_takes_over_when_the_first_is_silent_and_looks_once_a_day_anyway(
    store, clock
):
    first, second = uuid4(), uuid4()
    announce(store, first, second)
    pruner = pruner_of(store, clock, worker_id=second)
    ended(store, Succeeded(), 8 * DAY)
    clock[0] += WHOLE_PASS_EVERY.total_seconds()
    prune(pruner)
    assert Job.objects.count() == 0

    ended(store, Succeeded(), 8 * DAY - 2 * HOUR)
    prune(pruner)
    assert Job.objects.count() == 1
    WorkerPresence.objects.filter(id=first).update(seen_at=ago(2 * HOUR))
    prune(pruner)
    assert Job.objects.count() == 0


def test_a_worker_does_not_prune_as_soon_as_it_starts(store, clock):
    ended(store, Succeeded(), 8 * DAY)
    pruner = Pruner(
        store, Retention({"default": BackendOptions()}), worker_id=uuid4(), silence=HOUR
    )
    pruner._begins = clock[0] + 30

    assert pruner.step() == timedelta(seconds=30)

    assert Job.objects.count() == 1


def test_batches_are_small_and_between_them_it_rests(store, clock, monkeypatch):
    monkeypatch.setattr(pruner_module, "BATCH", 2)
    ended(store, Succeeded(), 8 * DAY, count=5)
    pruner = pruner_of(store, clock)
    plain = store.delete_ended

    def slow(*args, **kwargs):
        clock[0] += 1
        return plain(*args, **kwargs)

    monkeypatch.setattr(store, "delete_ended", slow)
    waits = []
    while Job.objects.exists():
        waits.append(pruner.step())

    assert len(waits) == 3
    assert waits[:2] == [timedelta(seconds=1)] * 2


@pytest.mark.parametrize(
    ("worked", "rest"),
    [(0, 20), (4, 20), (50, 200), (100, 400), (200, 300), (250, 250), (400, 400), (2000, 2000)],
)
def test_it_rests_longer_than_it_works_and_begins_twice_a_second_if_it_can(worked, rest):
    span = timedelta(milliseconds=worked)

    assert rest_after(span) == timedelta(milliseconds=rest)


def test_a_thousand_jobs_a_second_are_in_reach_of_a_slow_connection():
    slow = STEP / 2

    assert BATCH / (slow + rest_after(slow)).total_seconds() >= 1000


def test_what_was_deleted_is_told_and_written(store, clock, caplog):
    worker_id = uuid4()
    store.workers.announce(worker_id, locked=False)
    ended(store, Succeeded(), 8 * DAY, count=3)
    told = []

    def note(jobs, **_facts):
        told.append(jobs)

    events.jobs_pruned.connect(jobs_pruned)
    events.jobs_pruned.connect(note)
    pruner = pruner_of(store, clock, worker_id=worker_id)
    try:
        with caplog.at_level(logging.INFO, logger="aftercommit"):
            prune(pruner)
            prune(pruner)
    finally:
        events.jobs_pruned.disconnect(jobs_pruned)
        events.jobs_pruned.disconnect(note)

    assert told == [3]
    # Twice, if a test before this one has switched the log on as well.
    (line,) = {one.getMessage() for one in caplog.records if "notes" in one.getMessage()}
    assert line.startswith("Database 'default': deleted 3 ended jobs and 0 notes of the inbox")
    jobs, at = store.workers.last_pruned()
    assert jobs == 3
    assert at <= timezone.now() + HOUR


def test_it_holds_no_connection_while_there_is_nothing_to_do(store, clock):
    prune(pruner_of(store, clock))

    assert connection.connection is None


def test_every_worker_has_one(rig: Rig, clock):
    ended(rig.store, Succeeded(), 8 * DAY)
    clock[0] += LOOK_EVERY.total_seconds()

    prune(rig.rooms.pruner)

    assert Job.objects.count() == 0
