"""What a worker reports of itself: whether it is alive and ready, and if not, why."""

import json
from datetime import timedelta

import pytest

from aftercommit.worker.condition import FAILS_AFTER, HANGS_AFTER, Condition, condition_of
from aftercommit.worker.processes.report import LOST, SILENT, ProcessReport, WorkerReport

LONG = LOST.total_seconds()


def process(**given):
    """Return the report of a process that is well, but for what is given."""
    well = {
        "pid": 7,
        "ready": True,
        "missing_for": 0.0,
        "silent_for": 0.0,
        "stuck_for": 0.0,
        "problems": (),
        "last_end": "",
        "running": 1,
        "done": 5,
    }
    return ProcessReport(**{**well, **given})


def worker(*processes, stopping=False):
    """Return the report of a worker."""
    return WorkerReport(stopping=stopping, processes=processes, done=5, running=1, deaths=0)


def test_one_that_is_well_is_alive_and_ready():
    report = worker(process(), process())

    assert report.why_not_ready() == report.why_not_alive() == []


def test_a_report_is_the_same_after_its_way_through_the_channel():
    report = worker(process(problems=("one", "two")), process(pid=None))

    assert WorkerReport.of(json.loads(json.dumps(report.as_message()))) == report


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (
            {"pid": None, "ready": False, "missing_for": 3.0},
            "a worker process is missing for 3 s",
        ),
        (
            {"pid": None, "ready": False, "missing_for": 3.0, "last_end": "signal SIGKILL"},
            "a worker process is missing for 3 s; the last one ended with signal SIGKILL",
        ),
        ({"ready": False, "missing_for": 2.4}, "worker process 7 has not started yet for 2 s"),
        (
            {"silent_for": SILENT.total_seconds()},
            "worker process 7 shows no sign of life for 5 s",
        ),
        ({"problems": ("the database is away",)}, "worker process 7: the database is away"),
    ],
)
def test_what_lasts_for_a_moment_is_a_reason_not_to_be_ready_and_no_reason_to_be_killed(
    given, reason
):
    report = worker(process(), process(**given))

    assert report.why_not_ready() == [reason]
    assert report.why_not_alive() == []


@pytest.mark.parametrize(
    "given",
    [
        {"pid": None, "ready": False, "missing_for": LONG},
        {"ready": False, "missing_for": LONG, "last_end": "exit status 1"},
        {"silent_for": LONG},
        {"stuck_for": LONG, "problems": ("it hangs",)},
    ],
)
def test_what_lasts_is_a_reason_for_a_new_worker(given):
    assert len(worker(process(), process(**given)).why_not_alive()) == 1


def test_a_database_that_refuses_for_long_is_no_reason_for_a_new_worker():
    report = worker(process(problems=("fails for 9999 s (OperationalError)",)))

    assert report.why_not_alive() == []
    assert report.why_not_ready()


def test_a_project_that_takes_long_to_load_is_no_reason_for_a_new_worker():
    assert worker(process(ready=False, missing_for=LONG * 9)).why_not_alive() == []


def test_one_that_stops_is_not_ready_and_is_left_alone():
    report = worker(process(stuck_for=LONG, silent_for=LONG), stopping=True)

    assert report.why_not_ready() == ["the worker stops: it claims no more jobs"]
    assert report.why_not_alive() == []


# ---- the threads of a process -----------------------------------------------------------


class Thread:
    """A thread that does what it is told."""

    def __init__(self, busy=0.0, failing=0.0, failure=""):
        self.busy_for = timedelta(seconds=busy)
        self.failing_for = timedelta(seconds=failing)
        self.failure = failure


def test_threads_that_work_are_no_problem():
    brief = Thread(busy=1, failing=1, failure="OperationalError")

    assert condition_of([("default", "claims jobs", brief)]) == Condition()


def test_a_thread_that_hangs_is_named_with_its_database():
    hangs = Thread(busy=HANGS_AFTER.total_seconds())

    found = condition_of(
        [("default", "claims jobs", Thread()), ("other", "renews leases", hangs)]
    )

    assert found.stuck_for == HANGS_AFTER
    assert found.problems == (
        "the thread that renews leases in database 'other' hangs for 15 s; the database does not "
        "answer, perhaps",
    )


def test_a_thread_that_fails_is_named_with_its_error():
    fails = Thread(failing=FAILS_AFTER.total_seconds(), failure="OperationalError")

    found = condition_of([("default", "writes outcomes", fails)])

    assert found.stuck_for == timedelta(0)
    assert found.problems == (
        "the thread that writes outcomes in database 'default' fails for 5 s (OperationalError)",
    )
