"""The log: each event is one line, and says what an operator needs."""

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from django.dispatch import Signal

from aftercommit import events, log
from aftercommit.store.base import Rescued
from aftercommit.values import (
    Cancelled,
    Claim,
    Failed,
    Released,
    Retry,
    RunError,
    RunResult,
    Succeeded,
)

JOB, WORKER = UUID(int=1), UUID(int=2)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ERROR = RunError(
    exception_class_path="builtins.ValueError",
    traceback="password=secret",
    message="no such user",
    place="shop/tasks.py:14 in charge",
)
HARMLESS = replace(ERROR, traceback="")
DISCARDED = RunError(exception_class_path="aftercommit.Discard", traceback="", message="gone")
TOLD = "ValueError: no such user (shop/tasks.py:14 in charge)"
TOOK = timedelta(milliseconds=412)
CLAIM = Claim(
    job_id=JOB,
    token=4,
    worker_id=WORKER,
    lease_id=UUID(int=3),
    attempt=4,
    crashes=1,
    conflicts=0,
    max_attempts=5,
    task_path="app.tasks.send",
    payload='{"args": ["secret"], "kwargs": {}}',
    errors="[]",
    backend="default",
    queue="default",
    priority=0,
    tags=None,
    headers=None,
    run_after=NOW,
    enqueued_at=NOW,
    started_at=NOW,
    claimed_at=NOW,
)
RESCUED = Rescued(
    job_id=JOB,
    worker_id=WORKER,
    task_path="app.tasks.send",
    queue="mail",
    crashes=2,
    state="ready",
)
NAME = f"app.tasks.send {JOB}"


@pytest.fixture
def lines(caplog):
    """Let events be logged; return a function that returns level and text of what was."""
    log.write_log()
    log.write_log()  # changes nothing
    caplog.set_level(logging.DEBUG, logger="aftercommit")
    yield lambda: [(one.levelname, one.getMessage()) for one in caplog.records]
    for signal in vars(events).values():
        if isinstance(signal, Signal):
            signal.disconnect(dispatch_uid=events.LOG_RECEIVER)


@pytest.mark.parametrize(
    ("outcome", "level", "text"),
    [
        (Succeeded(), "DEBUG", "succeeded in attempt 4 in 0.4 s"),
        (
            Retry(ERROR, timedelta(seconds=9)),
            "WARNING",
            f"failed in attempt 3 of 5 after 0.4 s: {TOLD}; runs again in 9 s",
        ),
        (Failed(ERROR), "ERROR", f"failed for good in attempt 3 of 5 after 0.4 s: {TOLD}"),
        (
            Failed(DISCARDED, discarded=True),
            "INFO",
            "was discarded after 0.4 s: aftercommit.Discard: gone",
        ),
        (Cancelled(), "INFO", "was cancelled after 0.4 s"),
        (Cancelled(ERROR), "INFO", f"was cancelled after 0.4 s: {TOLD}"),
        (
            Released(),
            "INFO",
            "was released without counting an attempt (it was not finished); due again at once",
        ),
        (
            Released(timedelta(seconds=2), conflict=True),
            "INFO",
            "was released without counting an attempt (a conflict in the database); "
            "due again in 2 s",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_a_run_is_one_line(lines, outcome, level, text):
    send_ended(outcome)

    assert lines() == [(level, f"{NAME} {text}")]


def send_ended(outcome, *, claim=CLAIM, duration=TOOK):
    events.job_ended.send_robust(
        sender=None, claim=claim, ran=RunResult(outcome=outcome), duration=duration
    )


def test_a_run_that_did_not_begin_took_no_time(lines):
    send_ended(Failed(ERROR), duration=None)

    assert lines() == [("ERROR", f"{NAME} failed for good in attempt 3 of 5: {TOLD}")]


def test_a_line_carries_fields_for_programs(lines, caplog):
    claim = CLAIM._replace(claimed_at=NOW + timedelta(seconds=1.5))

    send_ended(Retry(ERROR, timedelta(seconds=9)), claim=claim)
    send_ended(Succeeded('"secret"'), claim=claim)

    failed, succeeded = ({name: vars(one).get(name) for name in FIELDS} for one in caplog.records)
    same = {
        "job_id": str(JOB),
        "task": "app.tasks.send",
        "queue": "default",
        "backend": "default",
        "attempt": 4,
        "duration": 0.412,
        "wait": 1.5,
    }
    assert failed == {
        **same,
        "outcome": "retry",
        "exception": "builtins.ValueError",
        "error": "no such user",
        "place": "shop/tasks.py:14 in charge",
        "traceback": "password=secret",
    }
    nothing = dict.fromkeys(("exception", "error", "place", "traceback"))
    assert succeeded == {**same, "outcome": "succeeded", **nothing}


FIELDS = (
    *("job_id", "task", "queue", "backend", "attempt", "duration", "wait", "outcome"),
    *("exception", "error", "place", "traceback"),
)


def test_a_clock_that_was_set_back_makes_no_wait_below_zero(lines, caplog):
    send_ended(Failed(ERROR), claim=CLAIM._replace(claimed_at=NOW - timedelta(seconds=1)))

    assert caplog.records[0].wait == 0


def test_a_record_factory_of_the_project_may_use_the_same_names(lines, monkeypatch):
    make = logging.getLogRecordFactory()

    def with_a_task(*args, **kwargs):
        record = make(*args, **kwargs)
        record.task = "of the project"
        return record

    logging.setLogRecordFactory(with_a_task)
    try:
        send_ended(Failed(ERROR))
    finally:
        logging.setLogRecordFactory(make)

    assert lines() == [("ERROR", f"{NAME} failed for good in attempt 3 of 5 after 0.4 s: {TOLD}")]


def test_a_message_of_several_lines_is_one_line(lines):
    send_ended(Failed(replace(ERROR, message="one\nERROR all is lost", place="")))

    ((_, text),) = lines()
    assert text.endswith(": ValueError: one\\nERROR all is lost")


def test_a_job_that_dies_with_its_worker_for_the_last_time_is_an_error(lines, caplog):
    events.job_rescued.send_robust(sender=None, rescued=replace(RESCUED, state="failed"))

    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert (record.outcome, record.crashes, record.state) == ("crashed", 2, "failed")


def test_a_lost_claim_is_one_line(lines):
    events.claim_lost.send_robust(sender=None, claim=CLAIM)

    ((level, text),) = lines()
    assert level == "WARNING"
    assert text.startswith(f"{NAME}: its outcome came too late")


def test_a_rescue_is_one_line(lines):
    events.job_rescued.send_robust(sender=None, rescued=RESCUED)

    ((level, text),) = lines()
    assert level == "WARNING"
    assert text.startswith(f"{NAME} was rescued from worker {WORKER}")
    assert text.endswith("(crash 2); it is ready")


def test_what_a_driver_says_stays_out_of_the_log(lines):
    error = ConnectionError("host=db user=app password=secret")

    events.database_away.send_robust(sender=None, using="default", error=error)
    events.database_back.send_robust(sender=None, using="default")

    assert lines() == [
        ("ERROR", "Database 'default' does not answer (ConnectionError); waiting for it"),
        ("INFO", "Database 'default' answers again"),
    ]


def test_a_worker_says_when_it_comes_and_goes(lines):
    events.worker_started.send_robust(sender=None, worker_id=WORKER, using="default")
    events.worker_stopped.send_robust(sender=None, worker_id=WORKER, using="default")

    assert lines() == [
        ("INFO", f"Worker {WORKER} serves the database 'default'"),
        ("INFO", f"Worker {WORKER} has left the database 'default'"),
    ]


def test_no_line_has_arguments_or_results(lines, caplog):
    for outcome in (
        Succeeded('"secret"'),
        Retry(HARMLESS),
        Failed(HARMLESS),
        Cancelled(HARMLESS),
    ):
        send_ended(outcome)
    events.claim_lost.send_robust(sender=None, claim=CLAIM)

    assert len(lines()) == 5
    assert not [one for one in caplog.records if "secret" in str(vars(one))]


def test_a_log_that_settings_have_disabled_without_meaning_to_is_there_again():
    """By default LOGGING disables each logger that exists and that it does not name."""
    logger = logging.getLogger("aftercommit")
    logger.disabled = True

    log.show_log()

    assert not logger.disabled
