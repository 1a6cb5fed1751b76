"""How a run ends, by what the task returns or raises: plain tasks."""

from datetime import timedelta

import pytest

from aftercommit.enqueue.outcomes import Cancel, Discard, Retry, Snooze
from aftercommit.errors import ClaimLost, ConfigurationError
from aftercommit.models import Job, State
from aftercommit.options.conf import BackendOptions
from aftercommit.values import Failed, Released
from aftercommit.worker.running.outcome import MOST_CONFLICTS
from tests.worker.rig import Rig, commits, effects, leave

pytestmark = commits

HOUR = timedelta(hours=1)


def raiser(exception):
    """Return a body that raises."""

    def body(context):
        raise exception

    return body


def test_what_a_task_returns_is_kept(rig):
    job = rig.run(lambda context: {"pages": [1, 2, None], "open": True})

    assert job.state == State.SUCCEEDED
    assert job.return_value == {"pages": [1, 2, None], "open": True}
    assert job.error_list == []


def test_a_context_names_the_job_and_its_attempt(rig):
    job = rig.run(lambda context: [context.job_id, context.attempt, context.cancel_requested])

    assert job.return_value == [str(job.pk), 1, False]


def test_a_failed_run_is_tried_again_after_its_backoff(rig):
    job = rig.run(raiser(ValueError("no such page")), max_attempts=2, backoff=HOUR)

    assert job.state == State.READY
    assert timedelta(minutes=59) < job.run_after - job.claimed_at <= HOUR + timedelta(minutes=1)
    (error,) = job.error_list
    assert error["exception_class_path"] == "builtins.ValueError"
    assert error["traceback"].endswith("ValueError: no such page\n")
    assert error["worker_id"] == str(rig.worker_id)


def test_the_last_attempt_fails_for_good(rig):
    job = rig.run(raiser(ValueError("no such page")), max_attempts=2)

    job = rig.run_again(job.pk)

    assert job.state == State.FAILED
    assert len(job.error_list) == job.attempts == 2


def test_the_backoff_is_asked_with_the_number_of_failed_runs(rig):
    asked = []

    def backoff(failed_runs):
        asked.append(failed_runs)
        return timedelta(0)

    job = rig.run(raiser(ValueError()), max_attempts=4, backoff=backoff)
    rig.run_again(job.pk)
    rig.run_again(job.pk)

    assert asked == [1, 2, 3]


@pytest.mark.parametrize("wrong", [ZeroDivisionError(), "soon"])
def test_a_broken_backoff_is_replaced_by_the_usual_one(rig, wrong, caplog):
    def backoff(failed_runs):
        if isinstance(wrong, Exception):
            raise wrong
        return wrong

    job = rig.run(raiser(ValueError()), max_attempts=2, backoff=backoff)

    assert job.state == State.READY
    assert "A backoff function failed" in caplog.text


def test_the_defaults_of_the_backend_count_where_the_task_says_nothing():
    rig = Rig(options=BackendOptions(backoff=HOUR, discard_on=(KeyError,)))

    retried = rig.run(raiser(ValueError()), backoff=None)
    discarded = rig.run(raiser(KeyError()), backoff=None)

    assert retried.run_after - retried.claimed_at > timedelta(minutes=59)
    assert discarded.state == State.FAILED
    rig.close()


@pytest.mark.parametrize(
    ("exception", "options", "state"),
    [
        (LookupError(), {"retry_on": LookupError}, State.READY),
        (KeyError(), {"retry_on": LookupError}, State.READY),
        (ValueError(), {"retry_on": LookupError}, State.FAILED),
        (ValueError(), {"retry_on": ()}, State.FAILED),
        (KeyError(), {"discard_on": LookupError}, State.FAILED),
        (ValueError(), {"discard_on": LookupError}, State.READY),
        (KeyError(), {"retry_on": LookupError, "discard_on": KeyError}, State.FAILED),
        (ValueError(), {"retry_on": "builtins.ValueError"}, State.READY),
        (ValueError(), {"discard_on": ["builtins.ValueError"]}, State.FAILED),
    ],
)
def test_what_is_tried_again_is_the_tasks_to_say(rig, exception, options, state):
    assert rig.run(raiser(exception), max_attempts=2, **options).state == state


@pytest.mark.parametrize("wanted", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_ordinary_exception_fails_unless_asked_for(rig, wanted):
    assert rig.run(raiser(wanted()), max_attempts=2).state == State.FAILED
    assert rig.run(raiser(wanted()), max_attempts=2, retry_on=wanted).state == State.READY


# ---- what a task asks for ---------------------------------------------------------


def test_a_task_may_ask_for_a_retry_and_say_when(rig):
    job = rig.run(raiser(Retry(HOUR)), max_attempts=2)

    assert job.state == State.READY
    assert job.run_after - job.claimed_at > timedelta(minutes=59)
    assert job.attempts == 1
    assert len(job.error_list) == 1


def test_a_retry_without_a_delay_waits_for_the_backoff(rig):
    job = rig.run(raiser(Retry()), max_attempts=2, backoff=HOUR)

    assert job.run_after - job.claimed_at > timedelta(minutes=59)


def test_a_retry_is_granted_whatever_retry_on_says(rig):
    job = rig.run(raiser(Retry()), max_attempts=2, retry_on=(), discard_on=Exception)

    assert job.state == State.READY


def test_a_retry_without_an_attempt_left_fails(rig):
    assert rig.run(raiser(Retry(HOUR)), max_attempts=1).state == State.FAILED


def test_a_snooze_costs_no_attempt(rig):
    job = rig.run(raiser(Snooze(HOUR)), max_attempts=1)

    assert job.state == State.READY
    assert job.attempts == 0
    assert job.error_list == []
    assert job.run_after - job.claimed_at > timedelta(minutes=59)


def test_a_snooze_without_a_wait_is_due_at_once(rig):
    job = rig.run(raiser(Snooze(timedelta(0))), max_attempts=1)

    assert rig.claim(job.pk).attempt == 1


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_task_may_cancel_itself(rig, attempts):
    job = rig.run(raiser(Cancel("the page is gone")), max_attempts=attempts)

    assert job.state == State.CANCELLED
    assert "the page is gone" in job.error_list[0]["traceback"]


@pytest.mark.parametrize("attempts", [1, 5])
def test_a_task_may_give_itself_up(rig, attempts):
    job = rig.run(raiser(Discard("the page is gone")), max_attempts=attempts)

    assert job.state == State.FAILED
    assert "the page is gone" in job.error_list[0]["traceback"]


@pytest.mark.parametrize("wanted", [Retry(), Snooze(timedelta(0)), Cancel(), Discard()])
def test_what_a_plain_task_did_before_it_asked_stays(rig, wanted):
    def body(context):
        leave("before")
        raise wanted

    rig.run(body, max_attempts=2)

    assert effects("before") == 1


def test_a_claim_that_is_said_to_be_lost_and_is_not_does_not_run_for_ever(rig):
    """A task that has changed the search path, for one, finds no row to finish."""
    job_id = rig.enqueue(raiser(ClaimLost(job_id="?")), max_attempts=2)
    runs = 0

    while rig.job(job_id).state == State.READY:
        Job.objects.update(run_after=rig.job(job_id).enqueued_at)
        rig.run_again(job_id)
        runs += 1
        assert runs <= MOST_CONFLICTS + 2

    assert rig.job(job_id).state == State.FAILED
    assert runs == MOST_CONFLICTS + 2


# ---- what a task returns ----------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, float("nan"), {(1,): "one"}, b"\xff", 10**4000],
    ids=["object", "set", "nan", "integer key", "bytes", "long number"],
)
def test_a_result_that_is_not_json_fails_and_is_not_tried_again(rig, value):
    job = rig.run(lambda context: value, max_attempts=5)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.PayloadError"


def test_a_result_that_is_too_large_fails_and_is_not_tried_again(rig):
    job = rig.run(lambda context: "x" * 2**21, max_attempts=5)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.PayloadTooLarge"


def test_nul_and_lone_surrogates_come_back_as_they_were(rig):
    job = rig.run(lambda context: "a\0b\ud800c")

    assert job.return_value == "a\0b\ud800c"


def test_an_error_text_may_hold_anything(rig):
    job = rig.run(raiser(ValueError("a\0b\ud800c")), max_attempts=1)

    assert "a\0b\ud800c" in job.error_list[0]["traceback"]


# ---- before a task begins ----------------------------------------------------------


def test_a_task_whose_options_make_no_sense_here_fails_instead_of_raising(rig):
    run = rig.hold(rig.claim(rig.enqueue(lambda context: leave("begun"), max_attempts=5)))
    run.facts.problem = ConfigurationError("retry_on names nothing")

    ran = rig.executor.run(run)

    assert isinstance(ran.outcome, Failed)
    assert "retry_on names nothing" in ran.outcome.error.traceback
    assert effects("begun") == 0


def test_a_process_that_stood_still_begins_nothing(rig):
    def body(context):
        leave("too late")

    job_id = rig.enqueue(body)
    run = rig.hold(rig.claim(job_id))
    run.renewed_at -= 21  # of a lease of 30 seconds

    ran = rig.execute_run(run)

    assert ran.outcome == Released()
    assert effects("too late") == 0
