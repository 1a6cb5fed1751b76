"""Ticks: one job for a moment, whoever makes it, and whatever the clock does."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from aftercommit.enqueue.payload import load_schedule
from aftercommit.models import Job, Schedule, State, Tick
from aftercommit.schedules.spec import Spec
from aftercommit.schedules.ticking import tick_due
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.values import Succeeded
from tests.app import tasks as _declared  # noqa: F401 - its tasks are known
from tests.django import unique_tasks
from tests.store.given import claim_one
from tests.store.ticking import NAME, SPAN, jobs, make, pass_time, row, set_back, tick, ticks

UNIQUE = "tests.django.unique_tasks.whole"
ONE = '{"args":[1],"kwargs":{}}'
HOURS, SECOND = timedelta(hours=1), timedelta(seconds=1)


def test_a_moment_becomes_one_job_that_knows_its_schedule_and_its_moment(store):
    moment = make(store)

    done = tick(store)

    job = Job.objects.get()
    assert job.args == [1, 2]
    assert load_schedule(job.payload) == (NAME, moment)
    assert [(one.moment, one.job_id) for one in done.ticked] == [(moment, job.id)]
    assert (row().last_run, row().last_job_id) == (moment, job.id)
    assert row().next_run == moment + SPAN
    assert not tick(store).ticked


def test_a_schedule_whose_time_has_not_come_makes_nothing(store):
    make(store, due=-SPAN)

    assert not tick(store).ticked
    assert jobs() == 0


def test_tick_and_job_are_one_transaction(store):
    make(store)

    with pytest.raises(LookupError), transaction.atomic():
        tick(store)
        raise LookupError

    assert (jobs(), ticks()) == (0, [])
    tick(store)
    assert jobs() == 1


def test_a_moment_is_not_made_again_when_the_clock_goes_back(store):
    moment = make(store)
    tick(store)

    set_back(next_run=moment)  # as a clock that was ahead leaves it, or a row made anew
    done = tick(store)

    assert (jobs(), ticks()) == (1, [moment])
    assert not done.ticked
    assert row().next_run > moment


@pytest.mark.parametrize("jump", [timedelta(hours=-2), -SPAN / 60, SPAN / 60, timedelta(hours=2)])
def test_no_moment_is_doubled_or_lost_when_the_clock_jumps(store, jump, monkeypatch):
    minute = timedelta(minutes=1)
    first = make(store, catch_up="all", every=minute)
    shift = timedelta(0)
    clock = store._clock()
    now = lambda _self: clock + shift  # noqa: E731
    monkeypatch.setattr(type(store), "_clock", now)
    due = type(store).lock_due_schedules

    def by_this_clock(self, **given):
        late = Schedule.objects.filter(enabled=True, next_run__lte=clock + shift)
        set_to = {one.pk: one.next_run for one in late.exclude(name__in=given["but"])}
        Schedule.objects.filter(pk__in=set_to).update(next_run=ago(minute))
        found = due(self, **given)
        for one in found:
            one.next_run = set_to[one.pk]
        return found

    monkeypatch.setattr(type(store), "lock_due_schedules", by_this_clock)
    for minutes in range(0, 300, 3):
        if minutes == 60:
            shift += jump
        clock += timedelta(minutes=3)
        while tick(store).is_full:
            pass

    made = ticks()
    last = clock + shift
    expected = int((max(last, made[-1]) - first) / minute)
    assert made == [first + minute * number for number in range(len(made))]
    assert len(made) in (expected, expected + 1)
    assert jobs() == len(made)


def test_two_that_look_at_once_make_one_job(store, new_caller, vendor):
    make(store)
    one, two = new_caller(), new_caller()

    with transaction.atomic():
        tick(store)
        begun = two.start(tick_due, store)
        if vendor == "sqlite":  # it waits for the lock of the file
            assert two.must_wait(begun)
        else:
            assert begun.result(10).ticked == []
    begun.result(30)
    one.do(tick_due, store)

    assert jobs() == 1


def test_the_tick_is_unique_also_without_the_lock_of_the_schedule(store, other, vendor):
    moment = make(store)
    if vendor == "sqlite":
        pytest.skip("one transaction writes at a time")
    with transaction.atomic():
        tick(store)
        begun = other.start(store.take_ticks, NAME, {moment: Job().id})
        assert other.must_wait(begun)
    assert begun.result(30) == set()
    with pytest.raises(IntegrityError), transaction.atomic():
        Tick.objects.create(schedule=NAME, moment=moment)


def test_who_waits_for_a_transaction_of_others_holds_up_no_other_schedule(
    store, new_caller, vendor
):
    if vendor == "sqlite":
        pytest.skip("one transaction writes at a time")
    make(store, "first", due=SPAN, task_path=UNIQUE, payload=ONE)
    make(store, "second")
    one, two = new_caller(), new_caller()

    with transaction.atomic():
        unique_tasks.whole.enqueue(1)
        begun = one.start(tick_due, store)
        one.must_wait(begun)
        seen = two.do(tick_due, store, but=["first"])
        assert [tick.schedule for tick in seen.ticked] == ["second"]
        done = begun.result(30)  # it does not wait for the end of the transaction
        assert (done.ticked, done.busy, done.is_full) == ([], {"first"}, True)
    (made,) = two.do(tick_due, store).ticked
    assert (made.schedule, made.job_id) == ("first", Job.objects.get(task_path=UNIQUE).id)


def test_the_session_waits_for_locks_as_before_when_ticks_are_made(store, vendor):
    if vendor == "sqlite":
        pytest.skip("it has one setting for all")
    name = "lock_timeout" if vendor == "postgresql" else "innodb_lock_wait_timeout"
    show = "SHOW lock_timeout" if vendor == "postgresql" else f"SELECT @@SESSION.{name}"

    def setting():
        with store.connection.cursor() as cursor:
            cursor.execute(show)
            return cursor.fetchone()

    with store.connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {name} = 7000")
    before = setting()
    make(store)
    with store.writing_briefly():
        assert setting() != before
    with pytest.raises(LookupError), store.writing_briefly():
        raise LookupError
    tick(store)
    assert setting() == before
    with transaction.atomic(), store.writing_briefly():  # it is the caller's
        assert setting() == before
    with store.connection.cursor() as cursor:
        cursor.execute(f"SET SESSION {name} = DEFAULT")


def test_of_missed_moments_the_last_one_is_made_up_for(store):
    first = make(store, due=SPAN * 5, catch_up="last")

    (done,) = tick(store).ticked

    assert ticks() == [done.moment]
    assert done.moment > first
    assert row().missed == (done.moment - first) / SPAN == done.missed


def test_all_missed_moments_are_made_up_for_within_the_window(store):
    first = make(store, due=SPAN * 10, catch_up="all", catch_up_within=SPAN * 5)

    done = tick(store).ticked

    assert 4 <= len(done) <= 6
    assert [one.moment for one in done] == ticks()
    assert row().missed == (done[0].moment - first) / SPAN


def test_missed_moments_are_left_out_without_catch_up(store):
    make(store, due=timedelta(days=3), every=timedelta(days=1), catch_up="none")

    (told,) = tick(store).ticked

    assert (jobs(), ticks()) == (0, [])
    assert told.job_id is None
    assert row().missed in (3, 4)
    assert row().next_run > datetime.now(tz=UTC)


def test_very_many_moments_are_made_in_several_transactions(store):
    make(store, due=timedelta(minutes=4), every=timedelta(seconds=1), catch_up="all")

    rounds = 0
    while tick(store).is_full:
        rounds += 1

    assert rounds >= 2
    assert jobs() == len(ticks()) >= 240


def test_a_moment_is_skipped_while_the_job_before_has_not_ended(store):
    make(store, overlap="skip")
    tick(store)
    claim = claim_one(store)

    pass_time(SPAN)
    (told,) = tick(store).ticked
    assert (told.job_id, bool(told.reason)) == (None, True)
    assert (jobs(), row().skipped) == (1, 1)

    store.finish(claim, Succeeded())
    pass_time(SPAN)
    (told,) = tick(store).ticked
    assert told.job_id is not None
    assert (jobs(), row().skipped) == (2, 1)


def test_of_moments_to_make_up_for_only_one_becomes_a_job_if_jobs_must_not_overlap(store):
    make(store, overlap="skip", catch_up="all", due=SPAN * 3)

    tick(store)

    assert jobs() == 1
    assert row().skipped == len(ticks()) - 1 >= 2


def test_a_moment_becomes_a_job_beside_the_one_before_if_it_queues(store):
    make(store)
    tick(store)
    pass_time(SPAN)

    tick(store)

    assert Job.objects.filter(state=State.READY).count() == 2


def test_jitter_delays_the_start_and_is_the_same_for_everybody(store):
    make(store, jitter=timedelta(days=1))

    (done,) = tick(store).ticked

    job = Job.objects.get()
    starts_at = Spec.of(row()).timing.starts_at(NAME, done.moment)
    assert timedelta(0) <= starts_at - done.moment <= timedelta(days=1)
    assert job.run_after == max(starts_at, job.enqueued_at)


def test_a_schedule_that_cannot_make_its_job_says_why_and_holds_up_no_other(store):
    make(store, "wrong", payload='{"args":[1,2,3,4],"kwargs":{}}')
    make(store)

    done = tick(store)

    assert done.failed == {"wrong"}
    assert [one.schedule for one in done.ticked] == [NAME]
    assert "TypeError" in row("wrong").problem
    assert row("wrong").next_run is not None  # it is tried again
    set_back("wrong", payload='{"args":[1,2],"kwargs":{}}')
    tick(store)
    assert row("wrong").problem == ""


def test_a_schedule_of_an_unknown_task_is_left_to_others(store):
    make(store, task_path="nowhere.at_all")

    assert tick(store).failed == {NAME}
    assert row().problem == ""
    assert tick(store, but={NAME}).failed == set()


def test_only_who_declares_a_schedule_makes_its_jobs(store):
    make(store)
    set_back(source="code", digest="theirs")

    assert not tick(store, digests=["mine"]).ticked
    assert len(tick(store, digests=["mine", "theirs"]).ticked) == 1


def test_the_next_moment_is_one_statement(store, django_assert_num_queries):
    with django_assert_num_queries(1):
        assert store.next_moment() is None
    make(store, due=-SPAN * 5)
    with django_assert_num_queries(1):
        found = store.next_moment()
    assert found[0] > found[1]


def test_old_ticks_and_schedules_that_ended_long_ago_are_pruned(store):
    make(store)
    tick(store)
    make(store, "ended")
    set_back("ended", ended_at=ago(timedelta(days=2)), next_run=None)
    Tick.objects.create(schedule=NAME, moment=ago(timedelta(days=2)))

    assert store.prune_ticks(older_than=timedelta(days=1), limit=10) == 1

    assert len(ticks()) == 1
    assert list(Schedule.objects.values_list("name", flat=True)) == [NAME]
    set_back(ended_at=DatabaseNow())
    assert store.prune_ticks(older_than=timedelta(days=1), limit=10) == 0
