"""``context.commit()``: the last part of a plain task and its completion are one commit."""

import contextlib

import pytest
from django.db import transaction

from aftercommit.enqueue.outcomes import Cancel, Retry, Snooze
from aftercommit.errors import AlreadyCommitted, ClaimLost, RolledBack
from aftercommit.models import State
from tests.worker.rig import AT_ONCE, commits, effects, leave, sql
from tests.worker.test_atomic import (
    close_the_connection,
    commit_by_hand,
    mark_for_rollback,
    swallow_an_error,
)

pytestmark = commits


def test_the_block_and_the_completion_are_one_commit(rig):
    def body(context):
        leave("before")
        with context.commit() as finish:
            leave("inside")
            finish.return_value = {"length": 7}

    job = rig.run(body)

    assert (job.state, job.return_value) == (State.SUCCEEDED, {"length": 7})
    assert effects("before") == effects("inside") == 1


def test_what_the_task_returns_after_the_commit_is_not_kept(rig):
    def body(context):
        with context.commit() as finish:
            finish.return_value = "committed"
        return "too late"

    assert rig.run(body).return_value == "committed"


def test_a_task_that_does_not_use_it_is_plain(rig):
    assert rig.run(lambda context: "plain").return_value == "plain"


@pytest.mark.parametrize(
    "wanted", [ValueError(), Retry(), Snooze(AT_ONCE), Cancel(), SystemExit()], ids=repr
)
def test_what_a_task_raises_after_the_commit_changes_nothing(rig, wanted, caplog):
    def body(context):
        with context.commit() as finish:
            leave("once")
            finish.return_value = "done"
        raise wanted

    job = rig.run(body)

    assert (job.state, job.return_value, job.error_list) == (State.SUCCEEDED, "done", [])
    assert effects("once") == 1
    assert rig.lost == []
    assert "raised after the commit" in caplog.text


def test_an_exception_inside_undoes_the_block_and_not_what_came_before(rig):
    def body(context):
        leave("before")
        with context.commit():
            leave("inside")
            raise ValueError

    job = rig.run(body, max_attempts=2)

    assert job.state == State.READY
    assert (effects("before"), effects("inside")) == (1, 0)


def test_an_exception_of_the_blocks_own_may_be_handled(rig):
    def body(context):
        try:
            with context.commit():
                leave("inside")
                raise KeyError
        except KeyError:
            return "declined"

    job = rig.run(body)

    assert (job.state, job.return_value) == (State.SUCCEEDED, "declined")
    assert effects("inside") == 0


def test_a_second_commit_is_refused_and_the_first_one_stands(rig):
    raised = []

    def body(context):
        with context.commit():
            leave("first")
        try:
            with context.commit():
                leave("second")
        except AlreadyCommitted as error:
            raised.append(error)
            raise

    job = rig.run(body)

    assert job.state == State.SUCCEEDED
    assert (effects("first"), effects("second")) == (1, 0)
    assert raised


def test_a_commit_inside_another_transaction_is_refused(rig):
    def body(context):
        with transaction.atomic(), context.commit():
            leave("undone")

    job = rig.run(body, max_attempts=1)

    assert job.state == State.FAILED
    assert "durable" in job.error_list[0]["traceback"]
    assert effects("undone") == 0


def test_a_commit_inside_an_atomic_task_is_refused(rig):
    def body(context):
        leave("undone")
        with context.commit():
            leave("undone")

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert effects("undone") == 0


def test_a_claim_that_was_lost_undoes_the_block(rig):
    successors = []

    def body(context):
        leave("before")
        successors.append(rig.lose(rig.claims[-1]))
        with context.commit():
            leave("inside")

    job = rig.run(body)

    assert (job.state, job.token) == (State.RUNNING, successors[0].token)
    assert (effects("before"), effects("inside")) == (1, 0)
    assert len(rig.lost) == 1


def test_a_claim_that_was_lost_is_told_to_the_task(rig):
    raised = []

    def body(context):
        rig.lose(rig.claims[-1])
        try:
            with context.commit():
                leave("inside")
        except ClaimLost as error:
            raised.append(error)

    job = rig.run(body)

    assert raised
    assert job.state == State.RUNNING
    assert effects("inside") == 0
    assert len(rig.lost) == 1


@pytest.mark.parametrize("spoil", [mark_for_rollback, swallow_an_error])
@pytest.mark.parametrize("swallowed", [False, True], ids=["raised", "swallowed"])
def test_a_block_that_will_not_commit_is_never_marked_done(rig, spoil, swallowed):
    """Not even when the task catches the exception that says so."""

    def body(context):
        expected = contextlib.suppress(RolledBack) if swallowed else contextlib.nullcontext()
        with expected, context.commit():
            spoil(context)

    job = rig.run(body, max_attempts=2)

    assert job.state == State.READY
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.RolledBack"
    assert effects("lost in silence") == 0


@pytest.mark.parametrize("spoil", [commit_by_hand, close_the_connection])
def test_a_block_whose_transaction_was_ended_is_said_aloud(rig, spoil):
    def body(context):
        with context.commit():
            spoil(context)

    job = rig.run(body, max_attempts=5)

    assert job.state == State.FAILED
    assert job.error_list[0]["exception_class_path"] == "aftercommit.errors.TransactionBroken"


@pytest.mark.parametrize("value", [object(), "x" * 2**21], ids=["not JSON", "too large"])
def test_a_result_that_cannot_be_stored_undoes_the_block(rig, value):
    def body(context):
        with context.commit() as finish:
            leave("undone")
            finish.return_value = value

    job = rig.run(body, max_attempts=5)

    assert job.state == State.FAILED
    assert effects("undone") == 0


def test_a_callback_that_raises_does_not_undo_the_job(rig):
    def body(context):
        with context.commit():
            leave("once")
            transaction.on_commit(lambda: 1 / 0)

    job = rig.run(body)

    assert job.state == State.SUCCEEDED
    assert effects("once") == 1
    assert rig.lost == []


def test_errors_outside_the_block_are_the_tasks_own_affair(rig):
    """In autocommit a caught error spoils nothing."""

    def body(context):
        with contextlib.suppress(Exception):
            sql("SELECT 1 FROM no_such_table")
        with context.commit():
            leave("once")
        with contextlib.suppress(Exception):
            sql("SELECT 1 FROM no_such_table")

    assert rig.run(body).state == State.SUCCEEDED
    assert effects("once") == 1
