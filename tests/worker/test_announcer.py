"""What Django's task signals tell of a run, and that nobody who listens can disturb it."""

import sys
from contextlib import ExitStack

import pytest
from django.db import OperationalError

from aftercommit import events, jobs, task
from aftercommit._compat import (
    TaskResultStatus,
    task_finished,
    task_started,
    tasks_signals,
)
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.outcomes import Cancel, Discard, Retry, Snooze
from aftercommit.errors import ClaimLost, Stopped
from aftercommit.models import State
from aftercommit.values import Cancelled, Failed, Succeeded
from aftercommit.values import Retry as RetryOutcome
from aftercommit.worker.upkeep import announcer
from tests.worker.rig import AT_ONCE, QUEUE, commits, effects, leave

pytestmark = commits


@task(queue_name=QUEUE)
def plainest():
    """Do nothing, and ask for nothing."""


class Ear:
    """Keeps what signals say, and what was true at that moment."""

    def __init__(self, rig):
        self._rig = rig
        self.heard = []

    def __call__(self, signal, sender, **said):
        result = said.get("task_result")
        state = self._rig.job(result.id).state if result else None
        self.heard.append((signal, sender, said, state, sys.exc_info()[1]))

    def of(self, signal):
        """Return what one signal has said."""
        return [one for one in self.heard if one[0] is signal]


@pytest.fixture
def ear(rig):
    """Return an ear on every signal of a run."""
    ear = Ear(rig)
    with ExitStack() as listening:
        for signal in (task_started, task_finished, events.job_ended, events.claim_lost):
            signal.connect(ear)
            listening.callback(signal.disconnect, ear)
        yield ear


def raiser(exception):
    """Return a body that raises."""

    def body(context):
        raise exception

    return body


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
def test_a_success_is_told_once_and_after_the_fact(rig, ear, atomic):
    job = rig.run(lambda context: "done", atomic=atomic)

    ((_, sender, said, state, error),) = ear.of(task_finished)
    assert sender is DatabaseBackend
    assert (state, error) == (State.SUCCEEDED, None)
    result = said["task_result"]
    assert result.id == str(job.pk)
    assert result.status == TaskResultStatus.SUCCESSFUL
    assert result.return_value == "done"
    assert result.is_finished
    assert result.errors == []


def test_a_start_is_told_before_the_first_line(rig, ear):
    heard = []

    def body(context):
        heard.extend(ear.of(task_started))

    rig.run(body)

    ((_, sender, said, state, _error),) = heard
    assert sender is DatabaseBackend
    assert state == State.RUNNING
    assert said["task_result"].status == TaskResultStatus.RUNNING
    assert said["task_result"].attempts == 1


@pytest.mark.parametrize(
    "exception", [ValueError("no"), Discard("no"), SystemExit(3), Cancel("no")], ids=repr
)
def test_an_end_without_success_is_told_with_its_exception(rig, ear, exception):
    """Inside the receiver it is the one being handled: Django's log takes it from there."""
    rig.run(raiser(exception), max_attempts=1)

    ((_, _sender, said, state, error),) = ear.of(task_finished)
    assert error is exception
    assert state in {State.FAILED, State.CANCELLED}
    result = said["task_result"]
    assert result.status == TaskResultStatus.FAILED
    assert result.errors[-1].exception_class_path.endswith(type(exception).__name__)
    assert sys.exc_info()[1] is None


@pytest.mark.parametrize("exception", [ValueError(), Retry(), Snooze(AT_ONCE)], ids=repr)
def test_a_run_that_will_be_repeated_is_no_end(rig, ear, exception):
    rig.run(raiser(exception), max_attempts=2)

    assert len(ear.of(task_started)) == 1
    assert ear.of(task_finished) == []
    assert len(ear.of(events.job_ended)) == 1


def test_each_run_starts_and_the_last_one_ends(rig, ear):
    job = rig.run(raiser(ValueError("first")), max_attempts=2)
    rig.run_again(job.pk)

    assert [one[2]["task_result"].attempts for one in ear.of(task_started)] == [1, 2]
    ((_, _sender, said, _state, _error),) = ear.of(task_finished)
    assert len(said["task_result"].errors) == 2
    assert len(said["task_result"].worker_ids) == 2


# ---- a run of which the end was asked for -------------------------------------------------


AGAIN = [ValueError("no"), Retry(), Snooze(AT_ONCE), Stopped(), ClaimLost(job_id="?")]


@pytest.fixture(params=["answered", "answer lost", "answer lost and connected again"])
def write(request, rig, monkeypatch):
    """Return a function that records the ends of runs; the answer may get lost on the way."""
    if request.param == "answered":
        return rig.finisher.write
    finish_many, answers = rig.store.finish_many, rig.store.answers
    away = [False] * (request.param == "answer lost")
    lost = []

    def and_lose_the_answer(ends):
        finish_many(ends)
        if not lost:
            lost.append(ends)
            raise OperationalError("the server does not answer")
        return []

    monkeypatch.setattr(rig.store, "finish_many", and_lose_the_answer)
    monkeypatch.setattr(rig.store, "answers", lambda: away.pop() if away else answers())

    def write():
        rig.finish_whatever_happens()
        assert lost
        assert not away

    return write


def run_and_ask_to_end(rig, body, **options):
    """Run a job; its cancellation is asked for meanwhile. Return the job's id."""
    claim = rig.claim(rig.enqueue(body, max_attempts=2, **options))
    ran = rig.execute(claim)
    jobs.cancel([claim.job_id], using="default")
    rig.put(claim, ran)
    return claim.job_id


@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
@pytest.mark.parametrize("exception", AGAIN, ids=lambda one: type(one).__name__)
def test_a_run_that_was_asked_to_end_and_would_be_repeated_is_told_as_cancelled(
    rig, ear, write, exception, atomic
):
    job_id = run_and_ask_to_end(rig, raiser(exception), atomic=atomic)

    write()

    assert rig.job(job_id).state == State.CANCELLED
    ((_, _, said, _, _),) = ear.of(events.job_ended)
    assert isinstance(said["ran"].outcome, Cancelled)
    ((_, _, said, state, _),) = ear.of(task_finished)
    assert (said["task_result"].state, state) == (State.CANCELLED, State.CANCELLED)
    assert said["task_result"].status == TaskResultStatus.FAILED
    assert ear.of(events.claim_lost) == []


def test_it_names_the_error_of_its_run_if_there_was_one(rig, ear, write):
    for exception in (ValueError("of the run"), Snooze(AT_ONCE)):
        run_and_ask_to_end(rig, raiser(exception))

    write()

    failed, snoozed = (one[2]["task_result"].errors for one in ear.of(task_finished))
    assert "of the run" in failed[-1].traceback
    assert snoozed == []


@pytest.mark.parametrize(
    ("body", "outcome", "state"),
    [
        (lambda context: 1, Succeeded, State.SUCCEEDED),
        (raiser(Discard("no")), Failed, State.FAILED),
        (raiser(Cancel("no")), Cancelled, State.CANCELLED),
    ],
)
def test_a_run_that_comes_to_an_end_of_its_own_is_told_so_whatever_was_asked(
    rig, ear, write, body, outcome, state
):
    job_id = run_and_ask_to_end(rig, body)

    write()

    assert rig.job(job_id).state == state
    assert isinstance(ear.of(events.job_ended)[0][2]["ran"].outcome, outcome)
    assert ear.of(task_finished)[0][2]["task_result"].state == state


def test_one_that_nobody_has_asked_to_end_is_told_as_it_is_when_the_answer_is_lost(
    rig, ear, write
):
    claim = rig.claim(rig.enqueue(raiser(ValueError("no")), max_attempts=2))
    rig.put(claim, rig.execute(claim))

    write()

    assert rig.job(claim.job_id).state == State.READY
    assert isinstance(ear.of(events.job_ended)[0][2]["ran"].outcome, RetryOutcome)
    assert ear.of(task_finished) == []


# ---- runs that have no end to tell --------------------------------------------------------


def test_a_lost_claim_has_neither_succeeded_nor_failed(rig, ear):
    claim = rig.claim(rig.enqueue(lambda context: "too late"))
    rig.lose(claim)

    rig.finish(claim, rig.execute(claim))

    assert ear.of(task_finished) == []
    assert ear.of(events.job_ended) == []
    ((_, _sender, said, _state, _error),) = ear.of(events.claim_lost)
    assert said["claim"] == claim


@pytest.mark.parametrize("trouble", [ZeroDivisionError, SystemExit])
@pytest.mark.parametrize(
    "signal",
    [task_started, task_finished, events.job_ended],
    ids=["task_started", "task_finished", "job_ended"],
)
@pytest.mark.parametrize("body", ["succeeds", "fails"])
def test_what_a_receiver_raises_changes_nothing(rig, signal, trouble, body):
    def receiver(**_):
        raise trouble

    def task(context):
        leave("once")
        if body == "fails":
            raise ValueError

    signal.connect(receiver)
    try:
        job = rig.run(task, max_attempts=1)
    finally:
        signal.disconnect(receiver)

    assert job.state == (State.SUCCEEDED if body == "succeeds" else State.FAILED)
    assert effects("once") == 1
    assert len(rig.written) == 1
    assert rig.finisher.empty


def test_what_nobody_hears_is_not_built(rig, monkeypatch):
    built = []
    monkeypatch.setattr(announcer, "running_result", lambda *given: built.append(given))
    monkeypatch.setattr(tasks_signals.logger, "disabled", True)

    job = rig.run_again(rig.enqueue_task(plainest))

    assert job.state == State.SUCCEEDED
    assert built == []


def test_the_levels_of_a_log_may_be_forgotten_while_another_thread_reads_them():
    class Cleared(dict):
        def __contains__(self, level):
            return True  # as it was a moment ago

    listeners = events.Listeners(events.job_ended, log=events.logger, own=events.LOG_RECEIVER)
    listeners._kept_until = float("inf")
    listeners._written = Cleared()
    assert listeners._writes(50) in {True, False}
