"""What Django's own log says about the end of a run, in ``django.tasks``."""

import logging

import pytest

from aftercommit import jobs
from aftercommit._compat import tasks_signals
from aftercommit.enqueue.outcomes import Cancel, Discard
from tests.worker.rig import call, commits

pytestmark = commits

LOG = tasks_signals.logger.name


def ends(caplog):
    """Return the lines about the ends of jobs."""
    return [one for one in caplog.records if one.name == LOG and "state=FAILED" in one.message]


def a_task_that_fails(context):
    raise ValueError("of the task")


def test_its_traceback_begins_with_the_task(rig, caplog):
    caplog.set_level(logging.DEBUG, logger=LOG)

    rig.run(a_task_that_fails, max_attempts=1)

    (record,) = ends(caplog)
    assert record.levelname == "ERROR"
    assert record.exc_info[2].tb_frame.f_code is call.__code__


@pytest.mark.parametrize(
    "exception",
    [Cancel("no"), Discard("no"), ExceptionGroup("several", [ValueError(), Discard("no")])],
    ids=repr,
)
@pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
def test_an_end_that_the_task_has_decided_is_no_error(rig, caplog, exception, atomic):
    caplog.set_level(logging.DEBUG)

    def body(context):
        raise exception

    rig.run(body, atomic=atomic)

    (record,) = ends(caplog)
    assert (record.levelname, record.exc_info) == ("INFO", None)
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


def test_it_is_not_written_where_errors_only_are_wanted(rig, caplog):
    caplog.set_level(logging.WARNING, logger=LOG)
    caplog.handler.setLevel(logging.NOTSET)  # which would not write it either

    def body(context):
        raise Cancel

    rig.run(body)

    assert ends(caplog) == []


def test_a_job_that_is_cancelled_while_it_waits_is_no_error(rig, caplog):
    caplog.set_level(logging.DEBUG, logger=LOG)
    job_id = rig.enqueue(a_task_that_fails)

    jobs.cancel([job_id], using="default")

    (record,) = ends(caplog)
    assert record.levelname == "INFO"


def test_the_next_failure_is_an_error_again(rig, caplog):
    caplog.set_level(logging.DEBUG, logger=LOG)

    def body(context):
        raise Discard

    rig.run(body)
    rig.run(a_task_that_fails, max_attempts=1)

    assert [one.levelname for one in ends(caplog)] == ["INFO", "ERROR"]
