"""Many jobs in one call of a function: each has an end of its own."""

import threading
from datetime import timedelta
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, transaction

from aftercommit import Cancel, Discard, Retry, Snooze
from aftercommit import task as declare_task
from aftercommit.errors import ClaimLost, ConfigurationError, PayloadError, TimedOut
from aftercommit.models import State
from aftercommit.values import Cancelled, Failed, Released, Succeeded
from aftercommit.values import Retry as RetryOutcome
from aftercommit.worker.running.atomic import batches as atomic_batches
from tests.app.models import Effect
from tests.worker.batched import Together, one
from tests.worker.rig import another_connection, at_work, commits, effects, leave

pytestmark = commits


@pytest.fixture
def together(rig):
    return Together(rig)


def kinds(outcomes):
    return [type(outcome) for outcome in outcomes]


def numbers(calls):
    return [call.args[0] for call in calls]


# ---- what a call is, and how it ends ---------------------------------------------------


def test_one_call_receives_all_jobs(together):
    received = []

    together.run(received.append)

    (calls,) = received
    assert [(call.args, call.kwargs, call.attempt) for call in calls] == [
        ([number], {}, 1) for number in range(3)
    ]
    assert [UUID(call.job_id) for call in calls] == together.ids
    assert together.states == ["succeeded"] * 3
    assert together.results == [None] * 3


def test_a_list_of_results_is_one_for_each_call(together):
    def square(calls):
        calls[1].succeed("my own")
        return [call.args[0] ** 2 for call in calls]

    together.run(square)

    assert together.results == [0, "my own", 4]


@pytest.mark.parametrize("returned", [[1, 2], "abc", {"a": 1}, 0], ids=repr)
def test_what_is_no_list_of_results_fails_all_but_those_that_have_one(together, returned):
    def body(calls):
        calls[0].succeed(7)
        return returned

    first, *others = together.run(body)

    assert first == Succeeded("7")
    assert kinds(others) == [Failed] * 2  # what they have done is done
    assert "one for each call" in others[0].error.traceback


def test_a_result_that_cannot_be_stored_is_one_failure(together):
    together.run(lambda calls: [1, object(), 3])

    assert together.states == ["succeeded", "failed", "succeeded"]


def test_each_job_ends_as_it_is_said(together):
    def body(calls):
        failed, discarded, retried, snoozed, cancelled, twice, _good = calls
        failed.fail(ValueError("of the first"))
        discarded.fail(Discard("no use"))
        retried.retry(timedelta(hours=1))
        snoozed.snooze(timedelta(hours=1))
        cancelled.fail(Cancel())
        twice.fail(ValueError())
        twice.succeed(2)

    outcomes = together.run(body, number=7)

    assert kinds(outcomes) == [
        RetryOutcome,
        Failed,
        RetryOutcome,
        Released,
        Cancelled,
        Succeeded,
        Succeeded,
    ]
    assert "of the first" in outcomes[0].error.traceback
    assert outcomes[2].delay == timedelta(hours=1)
    assert together.states[3:] == ["ready", "cancelled", "succeeded", "succeeded"]


def test_a_job_fails_with_an_exception_only(together):
    with pytest.raises(TypeError, match=r"call.fail\(\): expected an exception, got 'no'"):
        together.run(lambda calls: calls[0].fail("no"), max_attempts=1) and raise_it(together)


def raise_it(together):
    raise TypeError(together.outcomes[0].error.traceback)


def test_what_the_function_raises_ends_those_that_have_no_end_each_by_its_attempts(together):
    def body(calls):
        calls[1].succeed()
        calls[2].fail(Discard())
        raise ValueError("of the others")

    runs = together.hold(body, number=4)
    runs[3].claim = runs[3].claim._replace(attempt=5)
    together.run()

    assert kinds(together.outcomes) == [RetryOutcome, Succeeded, Failed, Failed]
    assert together.outcomes[2].discarded
    assert "of the others" in together.outcomes[3].error.traceback


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (Retry(timedelta(0)), RetryOutcome),
        (Snooze(timedelta(0)), Released),
        (Discard(), Failed),
        (Cancel(), Cancelled),
        (TimedOut(), RetryOutcome),
        (ClaimLost(), Released),
        (SystemExit(), Failed),
    ],
    ids=repr,
)
@pytest.mark.parametrize("atomic", [False, True])
def test_what_the_function_asks_for_it_asks_for_all(together, raised, kind, atomic):
    calls = []

    def body(given):
        calls.append(numbers(given))
        leave("begun")
        raise raised

    together.run(body, atomic=atomic, timeout=timedelta(seconds=30))

    assert kinds(together.outcomes) == [kind] * 3
    if atomic and not isinstance(raised, ClaimLost):
        assert effects("begun") == 0


def test_a_call_shows_neither_arguments_nor_results(together):
    shown = []

    together.run(lambda calls: shown.extend(map(repr, calls)))

    assert shown == [f"<BatchCall {job_id}>" for job_id in together.ids]


# ---- company ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "crashes", "most"), [(1, 0, 500), (2, 0, 15), (3, 0, 1), (5, 0, 1), (2, 1, 1)]
)
def test_the_more_often_a_job_has_failed_the_less_company_it_has(
    together, attempt, crashes, most
):
    (run,) = together.hold(one, number=1, batch_size=500)
    run.claim = run.claim._replace(attempt=attempt, crashes=crashes)

    assert together.batches.most(run) == most
    assert together.batches.accepts(run) == (most > 1)


def test_in_its_last_attempt_a_job_is_alone(together):
    (run,) = together.hold(one, number=1, batch_size=500, max_attempts=2)
    assert together.batches.most(run) == 500

    run.claim = run.claim._replace(attempt=2)

    assert together.batches.most(run) == 1


def test_a_job_that_lets_every_call_fail_is_the_only_one_that_fails(together):
    def body(calls):
        if 5 in numbers(calls):
            raise ValueError("the fifth")

    left = together.hold(body, number=8, max_attempts=3)
    while left:
        most = min(map(together.batches.most, left))
        company, left = left[:most], left[most:]
        for run, result in together.batches.run(company, at_work):
            together.rig.finisher.put(run, result)
        together.rig.finish_whatever_happens()
        ready = [run.claim.job_id for run in company]
        ready = [job_id for job_id in ready if together.rig.job(job_id).state == State.READY]
        left += [together.rig.hold(together.rig.claim(job_id)) for job_id in ready]

    assert together.states == ["succeeded"] * 5 + ["failed"] + ["succeeded"] * 2


def test_one_that_is_cancelled_does_not_begin_and_the_others_do(together):
    received = []
    together.hold(lambda calls: received.extend(numbers(calls)))
    together.rig.store.cancel([together.ids[1]])
    together.runs[1].ask_to_stop()

    together.run()

    assert received == [0, 2]
    assert together.states == ["succeeded", "cancelled", "succeeded"]


def test_one_that_is_cancelled_meanwhile_is_seen_and_stops_nobody(together):
    seen = []

    def body(calls):
        together.runs[1].ask_to_stop()
        for call in calls:
            call.context.checkpoint()
            seen.append(call.cancelled)
            if call.cancelled:
                call.fail(Cancel("as asked"))

    together.run(body)

    assert seen == [False, True, False]
    assert together.states == ["succeeded", "cancelled", "succeeded"]


@pytest.mark.parametrize("atomic", [False, True])
def test_one_whose_claim_is_lost_stops_nobody_and_all_lost_stop_the_call(together, atomic):
    reached = []

    def body(calls):
        together.runs[0].lose()
        calls[0].context.checkpoint()
        reached.append(calls[0].cancelled)
        for run in together.runs[1:]:
            run.lose()
        calls[0].context.checkpoint()
        reached.append("too far")

    together.run(body, atomic=atomic)

    assert reached == [True]
    assert kinds(together.outcomes) == [Released] * 3


def test_each_call_has_a_context_of_its_own(together):
    seen = []

    def body(calls):
        for call in calls:
            seen.append((call.context.job_id, call.context.task_result.args))
        with calls[0].context.commit():
            pass

    outcomes = together.run(body, max_attempts=1)

    assert seen == [(str(job_id), [number]) for number, job_id in enumerate(together.ids)]
    assert "context.commit() was called for one job of a batch" in outcomes[0].error.traceback


# ---- atomic ----------------------------------------------------------------------------


def write_all(calls):
    """Leave an effect for each call by one statement."""
    Effect.objects.bulk_create([Effect(key=str(call.args[0])) for call in calls])


def left_by(number):
    return [effects(str(one)) for one in range(number)]


def test_effects_and_completions_are_one_commit(together):
    seen = []

    def body(calls):
        write_all(calls)
        with another_connection() as outsider, outsider.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM app_effect")
            seen.append(cursor.fetchone()[0])
        return numbers(calls)

    together.run(body, atomic=True)

    assert seen == [0]
    assert left_by(3) == [1, 1, 1]
    assert together.states == ["succeeded"] * 3
    assert together.results == [0, 1, 2]


def test_those_that_were_not_failed_commit_together(together):
    def body(calls):
        write_all([calls[0], calls[2]])
        calls[1].fail(ValueError("of this one"))

    together.run(body, atomic=True)

    assert left_by(3) == [1, 0, 1]
    assert together.states == ["succeeded", "ready", "succeeded"]


def test_if_all_were_failed_nothing_is_committed(together):
    def body(calls):
        write_all(calls)
        for call in calls:
            call.retry()

    together.run(body, atomic=True)

    assert left_by(3) == [0, 0, 0]
    assert together.states == ["ready"] * 3


@pytest.mark.parametrize("bad", [{3}, {0, 9}, {4, 5}], ids=str)
def test_halves_find_the_bad_ones_and_the_others_are_committed_once(together, bad):
    calls = []

    def body(given):
        calls.append(numbers(given))
        write_all(given)
        if bad & set(numbers(given)):
            raise ValueError("a bad one")

    together.run(body, number=10, atomic=True, max_attempts=2)

    assert left_by(10) == [int(number not in bad) for number in range(10)]
    states = ["ready" if number in bad else "succeeded" for number in range(10)]
    assert together.states == states
    assert {together.rig.job(job_id).attempts for job_id in together.ids} == {1}
    assert len(calls) < 2 * 10


def test_a_database_error_of_one_is_found_in_the_same_way(together):
    def body(calls):
        write_all(calls)
        if 1 in numbers(calls):
            with connection.cursor() as cursor:
                cursor.execute("SELECT no_such_column FROM app_effect")

    together.run(body, atomic=True)

    assert left_by(3) == [1, 0, 1]
    assert together.states == ["succeeded", "ready", "succeeded"]


def test_a_search_for_bad_ones_has_an_end(together, monkeypatch):
    monkeypatch.setattr(atomic_batches, "MOST_CALLS", 4)
    calls = []

    def body(given):
        calls.append(len(given))
        raise ValueError("all of them")

    together.run(body, number=16, atomic=True)

    assert calls == [16, 8, 4, 2, 2, 4, 8]  # then no half is tried any more
    assert together.states == ["ready"] * 16


def test_a_lost_claim_rolls_back_and_the_others_are_repeated(together):
    calls = []

    def body(given):
        calls.append(numbers(given))
        write_all(given)
        if len(calls) == 1 and connection.vendor != "sqlite":  # which has one writer at a time
            threading.Thread(target=lose).start()
            assert lost.wait(30)

    def lose():
        try:
            together.rig.lose(together.runs[1].claim)
        finally:
            connection.close()
            lost.set()

    lost = threading.Event()
    together.hold(body, atomic=True)
    if connection.vendor == "sqlite":
        lose()
    together.run()

    assert calls == [[0, 1, 2], [0, 2]]
    assert left_by(3) == [1, 0, 1]
    assert together.states == ["succeeded", "running", "succeeded"]
    assert [claim.job_id for claim in together.rig.lost] == [together.ids[1]]


def test_a_result_that_cannot_be_stored_takes_its_effects_along(together):
    def body(calls):
        write_all(calls)
        return [object() if number == 1 else number for number in numbers(calls)]

    together.run(body, atomic=True)

    assert left_by(3) == [1, 0, 1]
    assert together.states == ["succeeded", "failed", "succeeded"]


def test_a_transaction_that_is_marked_for_rollback_commits_nothing_for_anybody(together):
    def body(calls):
        write_all(calls)
        if 1 in numbers(calls):
            transaction.set_rollback(True)

    together.run(body, atomic=True)

    assert left_by(3) == [1, 0, 1]
    assert together.states == ["succeeded", "ready", "succeeded"]


def test_callbacks_run_after_the_commit_and_their_errors_change_nothing(together):
    ran = []

    def body(calls):
        write_all(calls)
        transaction.on_commit(lambda: ran.append(left_by(3)))
        transaction.on_commit(lambda: 1 / 0)

    together.run(body, atomic=True)

    assert ran == [[1, 1, 1]]
    assert together.states == ["succeeded"] * 3


def test_rows_that_go_with_their_success_go_with_the_commit(together):
    together.run(write_all, atomic=True, keep_result=None)

    assert left_by(3) == [1, 1, 1]
    assert not any(together.rig.store.job(job_id) for job_id in together.ids)


def test_jobs_that_are_enqueued_inside_are_part_of_the_commit(together):
    from tests.django.tasks import note  # noqa: PLC0415

    def body(calls):
        note.enqueue_many([tuple(call.args) for call in calls])
        if 2 in numbers(calls):
            raise ValueError

    together.run(body, atomic=True)

    jobs = {
        job.args[0]
        for job in type(together.rig.job(together.ids[0])).objects.filter(
            task_path=note.module_path
        )
    }
    assert jobs == {0, 1}


# ---- the declaration, and direct calls -------------------------------------------------


def takes_two(first, second):
    """Take two arguments."""


def takes_context(context):
    """Take a context."""


def takes_page(page_id, *, force=False):
    """Take what a call takes."""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1001}, "at most 1,000 jobs are run by one call"),
        ({"batch_wait": timedelta(seconds=1)}, "this task has none: add batch_size"),
        ({"signature": takes_page}, "this task has none: add batch_size"),
        ({"batch_size": 5, "batch_wait": timedelta(minutes=1)}, "holds jobs for 0:00:10 at most"),
        ({"batch_size": 5, "batch_wait": 1}, "batch_wait"),
        ({"batch_size": 5, "limit": 1}, "limit is about single jobs"),
        ({"batch_size": 5, "takes_context": True}, "call.context"),
        ({"batch_size": 5, "signature": "page"}, "signature: expected a function"),
    ],
    ids=str,
)
def test_a_declaration_that_makes_no_sense_is_refused(options, words):
    function = takes_context if "takes_context" in options else one
    with pytest.raises(ConfigurationError, match=words):
        declare_task(**options)(function)


def test_a_function_that_takes_no_list_is_refused():
    with pytest.raises(ConfigurationError, match=r"takes one argument, the list of calls"):
        declare_task(batch_size=5)(takes_two)


def test_with_a_signature_calls_are_checked_when_they_are_enqueued(declare):
    index = declare(one, batch_size=5, signature=takes_page, unique="until_finished")

    with pytest.raises(TypeError, match=r"takes_page\(\) got an unexpected keyword argument"):
        index.enqueue(1, hurry=True)
    first = index.enqueue(1)
    again = index.enqueue(page_id=1, force=False)
    other = index.enqueue(1, force=True)

    assert first.id == again.id != other.id


def test_without_one_a_call_takes_anything(declare):
    index = declare(one, batch_size=5, rate="1000/s", rate_by=("account",))

    index.enqueue(1, "two", account=3)
    index.enqueue_many([(1,), {"key": 2}])


def counted(calls):
    """Return how many arguments a call has."""
    (call,) = calls
    if call.args == ["bad"]:
        call.fail(LookupError("bad"))
    return [len(call.args)] * (2 if call.args == ["two"] else 1)


async def acounted(calls):
    """Do the same in a coroutine."""
    return counted(calls)


@pytest.mark.parametrize("function", [counted, acounted])
def test_a_direct_call_is_a_batch_of_one(declare, function):
    count = declare(function, batch_size=5)

    assert count.call(1, 2) == 2
    assert async_to_sync(count.acall)(1) == 1
    with pytest.raises(LookupError):
        count.call("bad")
    with pytest.raises(PayloadError):
        count.call("two")


def test_a_batch_is_rolled_back_if_the_database_refuses_an_effect(together):
    def body(calls):
        write_all(calls)
        if 0 in numbers(calls):
            raise DatabaseError("refused")

    together.run(body, atomic=True)

    assert left_by(3) == [0, 1, 1]
