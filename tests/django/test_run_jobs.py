"""``run_jobs()`` in a plain ``TestCase``: the real worker inside the transaction of the test."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, connection, connections, transaction
from django.test import SimpleTestCase, TestCase, TransactionTestCase
from django.utils import timezone

from aftercommit import Discard, Retry, Snooze, chain, group, task
from aftercommit.enqueue import registry
from aftercommit.errors import (
    ConfigurationError,
    InsideTransaction,
    PayloadError,
    TooManyRuns,
)
from aftercommit.models import Job, State
from aftercommit.testing import run_jobs, travel
from tests.app.models import Account, Effect
from tests.app.tasks import (
    add,
    async_effect,
    atomic_effect,
    committed_effect,
    fail,
    plain_effect,
    roll_back,
    total,
)

happened: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_has_happened():
    happened.clear()


@pytest.fixture
def _declared_nightly(monkeypatch):
    """Declare a schedule for one test: workers of all others would make its jobs as well."""
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))
    task(cron="0 3 * * *", timezone="UTC")(nightly)


def effects():
    return sorted(Effect.objects.values_list("key", flat=True))


@task
def with_callbacks(key):
    transaction.on_commit(lambda: happened.append("at once"))
    with transaction.atomic():
        transaction.on_commit(lambda: happened.append("committed"))
        happened.append("in the block")
    happened.append("after the block")
    try:
        with transaction.atomic():
            transaction.on_commit(lambda: happened.append("never"))
            Effect.objects.create(key=key)
            raise KeyError(key)
    except KeyError:
        pass


@task(atomic=True)
def atomic_with_callback(key):
    Effect.objects.create(key=key)
    transaction.on_commit(lambda: atomic_effect.enqueue(f"{key}, afterwards"))
    happened.append(f"{Effect.objects.filter(key__contains='afterwards').count()} afterwards")


@task
def catches_an_error_of_the_database(key):
    account = Account.objects.create()
    try:
        Account.objects.create(pk=account.pk)
    except IntegrityError:
        Effect.objects.create(key=key)


@task
def raises_after_a_write(key):
    Effect.objects.create(key=key)
    raise LookupError(key)


@task(atomic=True)
def atomic_raises_after_a_write(key):
    Effect.objects.create(key=key)
    raise LookupError(key)


@task(takes_context=True, max_attempts=4, backoff=timedelta(hours=1))
def at_the_third_attempt(context):
    happened.append(f"{timezone.now():%H}")
    if context.attempt < 3:
        raise LookupError(context.attempt)


@task
def again_and_again():
    again_and_again.enqueue()


@task
def durable(key):
    with transaction.atomic(durable=True):
        Effect.objects.create(key=key)


@task
def closes_its_connection(key):
    Effect.objects.create(key=key)
    connection.close()
    Effect.objects.create(key=f"{key} again")


@task(batch_size=3)
def in_batches(calls):
    happened.append(str(sorted(call.args[0] for call in calls)))


@task(takes_context=True, keep_log="INFO")
def notes(context):
    context.progress(1, 2, "half")
    context.log.info("a line")
    context.save({"page": 1})
    return context.once("charge", lambda: "paid")


@task(limit=1)
def limited(key):
    Effect.objects.create(key=key)


@task(rate="1/h")
def rated(key):
    happened.append(f"{timezone.now():%H}")


def nightly():
    happened.append(f"{timezone.now():%H:%M}")


@task
def snoozes():
    raise Snooze(timedelta(hours=1))


@task
def discards():
    raise Discard("no")


@task(max_attempts=2)
def asks_for_a_retry():
    raise Retry(timedelta(minutes=1))


@task
def returns_a_set():
    return {1}


class RunJobsTests(TestCase):
    def test_what_is_due_is_run_and_its_results_are_returned(self):
        plain_effect.enqueue("plain")
        atomic_effect.enqueue("atomic")
        committed_effect.enqueue("committed")
        async_effect.enqueue("async")

        results = run_jobs()

        assert effects() == ["async", "atomic", "committed", "plain"]
        assert {one.return_value for one in results} == set(effects())
        assert {one.state for one in results} == {State.SUCCEEDED}
        assert {job.state for job in Job.objects.all()} == {State.SUCCEEDED}
        assert run_jobs() == []

    def test_nothing_of_it_is_left_for_the_next_test(self):
        assert Job.objects.count() == 0
        assert effects() == []

    def test_callbacks_are_called_when_production_would_call_them(self):
        with_callbacks.enqueue("rolled back")

        run_jobs()

        assert happened == ["at once", "in the block", "committed", "after the block"]
        assert effects() == []

    def test_a_job_that_a_callback_enqueues_is_run_as_well(self):
        atomic_with_callback.enqueue("first")

        run_jobs()

        assert effects() == ["first", "first, afterwards"]
        assert happened == ["0 afterwards"]

    def test_an_error_that_a_task_has_caught_spoils_nothing(self):
        catches_an_error_of_the_database.enqueue("caught")

        run_jobs()

        assert effects() == ["caught"]
        assert not connection.needs_rollback

    def test_a_durable_block_is_possible(self):
        durable.enqueue("durable")

        run_jobs()

        assert effects() == ["durable"]

    def test_a_task_that_closes_its_connection_does_not_end_the_test(self):
        closes_its_connection.enqueue("one")

        run_jobs()

        assert effects() == ["one", "one again"]

    def test_the_first_error_is_raised_and_recorded(self):
        fail.enqueue("on purpose")

        with self.assertRaisesMessage(ValueError, "on purpose"):
            run_jobs()

        (job,) = Job.objects.all()
        assert (job.state, job.attempts) == (State.READY, 1)
        assert "on purpose" in job.error_list[0]["traceback"]

    def test_a_plain_task_keeps_what_it_has_written_before_its_error(self):
        raises_after_a_write.enqueue("plain")
        atomic_raises_after_a_write.enqueue("atomic")

        run_jobs(raise_errors=False)

        assert effects() == ["plain"]

    def test_a_transaction_that_is_rolled_back_is_an_error(self):
        roll_back.enqueue("gone")

        with self.assertRaisesMessage(Exception, "rollback"):
            run_jobs()

        assert effects() == []

    def test_what_a_task_chooses_is_no_error(self):
        discards.enqueue()
        snoozes.enqueue()
        asks_for_a_retry.enqueue()

        run_jobs()

        states = dict(Job.objects.values_list("task_path", "state"))
        assert sorted(states.values()) == [State.FAILED, State.READY, State.READY]

    def test_a_retry_without_an_attempt_left_is_an_error(self):
        asks_for_a_retry.enqueue()
        run_jobs()

        with pytest.raises(Retry), travel(timedelta(minutes=2)):
            run_jobs()

    def test_a_result_that_cannot_be_stored_is_an_error(self):
        returns_a_set.enqueue()

        with self.assertRaisesMessage(PayloadError, "returns_a_set: return value"):
            run_jobs()

    def test_retries_wait_for_their_backoff(self):
        at_the_third_attempt.enqueue()

        assert len(run_jobs(raise_errors=False)) == 1
        assert len(run_jobs(raise_errors=False)) == 0
        with travel(timedelta(hours=1)):
            assert len(run_jobs(raise_errors=False)) == 1
        with travel(timedelta(hours=1)):
            assert len(run_jobs(raise_errors=False)) == 0
            with travel(timedelta(hours=1)):
                (last,) = run_jobs()

        assert last.state == State.SUCCEEDED
        assert last.attempts == 3

    def test_until_lets_the_clock_go_on_from_job_to_job(self):
        at_the_third_attempt.enqueue()

        results = run_jobs(until=timedelta(hours=3), raise_errors=False)

        now = timezone.now()
        assert [one.state for one in results] == [State.READY, State.READY, State.SUCCEEDED]
        assert happened == [f"{now + timedelta(hours=n):%H}" for n in range(3)]

    def test_until_does_not_go_further(self):
        at_the_third_attempt.enqueue()

        assert len(run_jobs(until=timedelta(minutes=90), raise_errors=False)) == 2

    def test_only_the_wanted_queues(self):
        plain_effect.using(queue_name="mail").enqueue("mail")
        plain_effect.enqueue("other")

        run_jobs(queue="mail")

        assert effects() == ["mail"]

    def test_groups_and_chains(self):
        chain(add.bind(1, 2), total.bind([3])).enqueue()
        calls = [add.bind(1, 1), add.bind(2, 2)]
        made = group(calls, name="sums", then=plain_effect.bind("then")).enqueue()

        run_jobs()

        made.refresh()
        assert made.is_finished
        assert effects() == ["then"]
        assert {job.state for job in Job.objects.all()} == {State.SUCCEEDED}

    def test_batches(self):
        for number in range(5):
            in_batches.enqueue(number)

        assert len(run_jobs()) == 5

        assert happened == ["[0, 1, 2]", "[3, 4]"]

    def test_notes(self):
        made = notes.enqueue()

        (result,) = run_jobs()

        assert result.return_value == "paid"
        assert made.progress.message == "half"
        assert [line.message for line in made.log] == ["a line"]

    def test_limited_tasks(self):
        for key in "abc":
            limited.enqueue(key)

        run_jobs()

        assert effects() == ["a", "b", "c"]

    def test_rates_go_by_the_clock(self):
        for key in "abc":
            rated.enqueue(key)

        assert len(run_jobs()) == 1
        assert len(run_jobs(until=timedelta(hours=5))) == 2

        now = timezone.now()
        assert happened == [f"{now + timedelta(hours=n):%H}" for n in range(3)]

    @pytest.mark.usefixtures("_declared_nightly")
    def test_schedules_go_by_the_clock(self):
        with travel(datetime(2031, 5, 1, 2, 59, tzinfo=UTC)):
            run_jobs()  # a moment was missed since today
            happened.clear()
            run_jobs(until=timedelta(days=2))

        assert happened == ["03:00", "03:00"]

    @pytest.mark.usefixtures("_declared_nightly")
    def test_a_schedule_is_known_before_the_clock_moves(self):
        with travel(timedelta(days=1)):
            run_jobs()

        assert len(happened) == 1

    def test_a_task_without_end_is_stopped(self):
        again_and_again.enqueue()

        with pytest.raises(TooManyRuns, match=r"run 20 jobs, and one of .*again_and_again"):
            run_jobs(most=20)

    def test_inside_a_transaction_of_the_test_it_refuses(self):
        plain_effect.enqueue("not yet")

        with pytest.raises(InsideTransaction, match="after the block"), transaction.atomic():
            run_jobs()

        assert effects() == []

    def test_until_is_a_span_or_an_aware_moment(self):
        for wrong in (5, "1h", datetime(2030, 1, 1)):
            with pytest.raises(ConfigurationError, match="Nothing was run"):
                run_jobs(until=wrong)

    def test_the_connection_is_afterwards_what_it_was(self):
        before = dict(vars(connection))
        plain_effect.enqueue("one")

        run_jobs()

        after = dict(vars(connection))
        for volatile in ("savepoint_state", "queries_log"):
            before.pop(volatile, None)
            after.pop(volatile, None)
        assert after == before
        assert connection.in_atomic_block

    def test_callbacks_of_the_test_itself_are_left_to_it(self):
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            transaction.on_commit(lambda: plain_effect.enqueue("by a callback"))
            assert run_jobs() == []

        assert len(callbacks) == 1
        assert len(run_jobs()) == 1


class SeveralDatabasesTests(TestCase):
    databases = {"default", "other"}

    def test_jobs_of_each_database_are_run(self):
        add.using(backend="other").enqueue(1, 2)
        add.enqueue(2, 3)

        assert sorted(one.return_value for one in run_jobs()) == [3, 5]
        assert connections["other"].in_atomic_block


class WithoutDatabasesTests(SimpleTestCase):
    def test_it_says_that_there_is_none(self):
        with pytest.raises(ConfigurationError, match="none of the databases"):
            run_jobs()


class WithRealCommitsTests(TransactionTestCase):
    databases = {"default", "other"}

    def test_it_runs_jobs_as_well(self):
        plain_effect.enqueue("plain")
        atomic_effect.enqueue("atomic")
        with_callbacks.enqueue("rolled back")

        run_jobs()

        assert effects() == ["atomic", "plain"]
        assert happened == ["at once", "in the block", "committed", "after the block"]


@pytest.mark.django_db
def test_it_works_with_the_fixture_of_pytest_django():
    atomic_effect.enqueue("one")

    run_jobs()

    assert effects() == ["one"]
