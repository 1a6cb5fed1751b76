"""The log: each event is one line, and says what an operator needs."""

import logging
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
ERROR = RunError(exception_class_path="builtins.ValueError", traceback="password=secret")
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
    run_after=NOW,
    enqueued_at=NOW,
    started_at=NOW,
    claimed_at=NOW,
)
RESCUED = Rescued(
    job_id=JOB, worker_id=WORKER, task_path="app.tasks.send", crashes=2, state="ready"
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
        (Succeeded(), "DEBUG", f"{NAME} succeeded in attempt 4"),
        (
            Retry(ERROR, timedelta(seconds=9)),
            "WARNING",
            f"{NAME} failed in attempt 3 of 5 (builtins.ValueError); again in 0:00:09",
        ),
        (Failed(ERROR), "ERROR", f"{NAME} failed for good: builtins.ValueError"),
        (Cancelled(ERROR), "INFO", f"{NAME} was cancelled"),
        (
            Released(),
            "INFO",
            f"{NAME} was released without counting an attempt (it was not finished); "
            "due again in 0:00:00",
        ),
        (
            Released(timedelta(seconds=2), conflict=True),
            "INFO",
            f"{NAME} was released without counting an attempt (a conflict in the database); "
            "due again in 0:00:02",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_end_of_a_run_is_one_line(lines, outcome, level, text):
    events.job_ended.send_robust(sender=None, claim=CLAIM, ran=RunResult(outcome=outcome))

    assert lines() == [(level, text)]


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
        ("INFO", f"Worker {WORKER} serves 'default'"),
        ("INFO", f"Worker {WORKER} has left 'default'"),
    ]


def test_neither_arguments_nor_tracebacks_are_logged(lines):
    for outcome in (Succeeded('"secret"'), Retry(ERROR), Failed(ERROR), Cancelled(ERROR)):
        events.job_ended.send_robust(sender=None, claim=CLAIM, ran=RunResult(outcome=outcome))
    events.claim_lost.send_robust(sender=None, claim=CLAIM)

    assert len(lines()) == 5
    assert not [text for _level, text in lines() if "secret" in text]
