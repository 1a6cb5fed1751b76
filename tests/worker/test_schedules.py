"""Schedules in a worker: when it looks, what a job knows, and what monitors are told."""

import time
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import ProgrammingError

from aftercommit import events, schedules, task
from aftercommit.models import Job, Schedule, Tick
from aftercommit.schedules.ticking import Round
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.store.schedules import Schedules
from aftercommit.values import NO_TIME
from aftercommit.worker.upkeep import schedules as room
from aftercommit.worker.upkeep.schedules import LOOK_EVERY, LOOK_RARELY, Scheduler
from tests.worker.rig import commits

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
said: list[object] = []


@task(takes_context=True, max_attempts=1)
def say(context, fails=False):
    """Say for which schedule and moment this runs."""
    said.append(context.schedule)
    if fails:
        raise ValueError


@pytest.fixture(autouse=True)
def nothing_said():
    """Begin with nothing said."""
    said.clear()


@pytest.fixture
def heard():
    """Return what the signals of schedules carry."""
    found = []

    def note_tick(**given):
        found.append(("ticked", given["schedule"], given["job_id"] is not None))

    def note_check_in(**given):
        found.append((given["status"], given["schedule"], given["moment"]))

    events.schedule_ticked.connect(note_tick)
    events.schedule_checked_in.connect(note_check_in)
    yield found
    events.schedule_ticked.disconnect(note_tick)
    events.schedule_checked_in.disconnect(note_check_in)


def scheduler(news=lambda: None):
    """Return a scheduler without a thread."""
    return Scheduler(store_for("default"), news=news)


def make(name="mine", **given):
    """Make a schedule whose moment has come."""
    path = say.module_path
    schedules.create(name, **{"task": path, "every": DAY} | given)
    Schedule.objects.filter(name=name).update(next_run=ago(DAY))


def test_without_schedules_one_statement_a_minute_is_asked(django_assert_num_queries):
    one = scheduler()

    with django_assert_num_queries(1):
        wait = one.step()
    with django_assert_num_queries(0):
        one.step()

    assert room.SEEN_EVERY / 2 < wait <= LOOK_RARELY


def test_with_a_schedule_one_statement_a_second_is_asked(django_assert_num_queries):
    schedules.create("later", task=say.module_path, every=DAY)
    one = scheduler()
    one.step()

    with django_assert_num_queries(0):
        assert one.step() <= LOOK_EVERY
    one._next_look = time.monotonic()
    with django_assert_num_queries(1):
        one.step()


def test_what_is_due_is_made_and_told():
    told = []
    make()

    scheduler(news=lambda: told.append(1)).step()

    assert Job.objects.count() == Tick.objects.count() == len(told) == 1


def test_of_many_moments_each_step_tells_of_its_jobs():
    told = []
    make(every=HOUR, catch_up="all")

    one = scheduler(news=lambda: told.append(Job.objects.count()))
    one.step()

    assert told[0] == Job.objects.count() > 1


def test_a_change_is_seen_at_once_by_who_is_told():
    one = scheduler()
    one.step()
    make()
    rung = []
    one.ring = lambda: rung.append(1)

    one.look_soon()
    one.step()

    assert (len(rung), Job.objects.count()) == (1, 1)


def test_a_schedule_that_makes_no_job_is_left_alone_for_a_while(monkeypatch):
    make(kwargs={"fails": True})
    Schedule.objects.update(payload="{}")
    one = scheduler()
    one.step()
    tried = []
    monkeypatch.setattr(
        Schedules, "lock_due_schedules", lambda _self, **it: tried.append(it) or []
    )

    one._next_look = float("-inf")
    assert one.step() > timedelta(0)

    assert [it["but"] for it in tried] == [{"mine"}]


@pytest.mark.parametrize(("span", "left"), [(room.LEFT_BUSY, {"mine"}), (NO_TIME, set())])
def test_a_schedule_that_waits_for_a_transaction_is_left_alone_for_some_seconds(
    span, left, monkeypatch
):
    make()
    tried = []

    def tick_due(_store, *, digests, but):
        tried.append(set(but))
        return Round(busy={"mine"}, is_full=True)

    monkeypatch.setattr(room, "LEFT_BUSY", span)
    monkeypatch.setattr(room, "tick_due", tick_due)
    one = scheduler()

    assert one.step() == NO_TIME  # others may be due
    one.step()

    assert tried == [set(), left]


def test_the_worker_sleeps_until_a_moment_that_comes_before_the_next_look(monkeypatch):
    now = store_for("default").clock()
    monkeypatch.setattr(Schedules, "next_moment", lambda _self: (now + LOOK_EVERY / 2, now))

    assert scheduler().step() <= LOOK_EVERY / 2


def test_a_worker_of_a_new_version_waits_for_its_tables(monkeypatch):
    def no_table(_self):
        raise ProgrammingError

    monkeypatch.setattr(Schedules, "next_moment", no_table)
    with pytest.raises(ProgrammingError):
        scheduler().step()
    monkeypatch.setattr(Schedules, "has_schedules", lambda _self: False)

    assert scheduler().step() > timedelta(seconds=5)


def test_a_job_knows_its_schedule_and_the_moment_that_was_due():
    make()
    scheduler().step()

    call_command("flush_queue")

    (moment,) = Tick.objects.values_list("moment", flat=True)
    assert said == [("mine", moment)]


def test_other_jobs_have_no_schedule():
    say.enqueue()

    call_command("flush_queue")

    assert said == [None]


def test_flush_queue_makes_the_jobs_that_are_due():
    make()

    call_command("flush_queue", stdout=StringIO())

    assert len(said) == 1


@pytest.mark.parametrize(("fails", "end"), [(False, "ok"), (True, "error")])
def test_monitors_hear_when_a_job_begins_and_how_it_ends(heard, fails, end):
    make(kwargs={"fails": fails})

    call_command("flush_queue")

    (moment,) = Tick.objects.values_list("moment", flat=True)
    assert heard == [
        ("ticked", "mine", True),
        ("in_progress", "mine", moment),
        (end, "mine", moment),
    ]


def test_monitors_hear_of_a_moment_that_was_missed(heard):
    make(catch_up="none")

    scheduler().step()

    assert [(one[0], one[1]) for one in heard] == [("ticked", "mine"), ("missed", "mine")]
    assert not heard[0][2]


def test_other_jobs_are_told_to_no_monitor(heard):
    say.enqueue()

    call_command("flush_queue")

    assert heard == []


def test_the_jobs_of_a_schedule_have_headers(settings):
    before = settings.TASKS["default"]
    options = {**before["OPTIONS"], "headers": lambda enqueuing: {"by": enqueuing.name}}
    settings.TASKS = {"default": {**before, "OPTIONS": options}}
    make()

    scheduler().step()

    found = {one.headers for one in Job.objects.all()}
    assert found == {f'{{"by":"{say.module_path}"}}'}
