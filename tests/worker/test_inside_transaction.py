"""What runs jobs for a caller whose transaction is open: nothing is run, nothing is touched."""

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections, transaction
from django.test import TestCase

from aftercommit.errors import InsideTransaction
from aftercommit.management.subcommands import worker as worker_command
from aftercommit.models import Job, State
from aftercommit.worker import inline
from aftercommit.worker.inline import InlineWorker
from tests.app.models import Effect
from tests.app.tasks import plain_effect
from tests.databases import ALIASES
from tests.worker.rig import another_connection, commits, leave, sql

COMMANDS = [
    ["flush_queue"],
    ["aftercommit", "worker", "--drain"],
    ["aftercommit", "relay", "--drain"],
]
CLASS = "TransactionTestCase"
each_command = pytest.mark.parametrize("command", COMMANDS, ids=" ".join)


@pytest.fixture(autouse=True)
def _nothing_begins(monkeypatch):
    """Fail at once instead of starting processes or running jobs."""

    def begin(*_, **__):
        raise AssertionError("it has begun")

    monkeypatch.setattr(worker_command, "Supervisor", begin)
    monkeypatch.setattr(inline, "InlineAlias", begin)


def atomic():
    """Enter a block."""
    block = transaction.atomic()
    block.__enter__()
    return lambda: block.__exit__(None, None, None)


def nested():
    """Enter a block, and one inside it."""
    leave_outer, leave_inner = atomic(), atomic()
    return lambda: (leave_inner(), leave_outer())


def closed_inside():
    """Enter a block whose connection is gone."""
    block = transaction.atomic()
    block.__enter__()
    connection.close()
    return lambda: block.__exit__(None, None, None)


def autocommit_off():
    """Begin as ``set_autocommit()`` does."""
    transaction.set_autocommit(False)
    leave("before")
    return lambda: (transaction.commit(), transaction.set_autocommit(True))


def raw_begin():
    """Begin past Django."""
    sql("BEGIN")
    return lambda: sql("COMMIT")


def raw_start_with_comment():
    """Begin past Django, by other words."""
    sql("/* by hand */ BEGIN")
    leave("before")
    return lambda: sql("COMMIT")


OPEN = [atomic, nested, closed_inside, autocommit_off, raw_begin, raw_start_with_comment]


@commits
@each_command
@pytest.mark.parametrize("enter", OPEN, ids=lambda function: function.__name__)
def test_it_is_refused_in_a_transaction_of_the_caller(command, enter):
    end = enter()
    try:
        with pytest.raises(CommandError, match="open on database 'default'"):
            call_command(*command)
        if enter is not closed_inside:
            assert connection.connection is not None
    finally:
        end()


@commits
def test_what_the_caller_wrote_before_and_after_is_committed_and_the_job_runs_later(flush_queue):
    with transaction.atomic():
        leave("before")
        job_id = plain_effect.enqueue("a job").id
        with pytest.raises(CommandError, match=r"transaction\.on_commit"):
            call_command("flush_queue")
        leave("after")

    with another_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM app_effect")
        assert cursor.fetchone() == (2,)
    assert Job.objects.get(pk=job_id).state == State.READY


@commits
def test_the_inline_worker_itself_refuses_like_a_durable_block():
    with transaction.atomic(), pytest.raises(InsideTransaction) as refused:
        InlineWorker().run()

    assert isinstance(refused.value, RuntimeError)
    assert refused.value.using == ("default",)


@pytest.mark.django_db(transaction=True, databases=ALIASES)
@each_command
def test_a_transaction_on_another_database_counts_as_well(command):
    with (
        transaction.atomic(using="other"),
        pytest.raises(CommandError, match="open on database 'other'"),
    ):
        call_command(*command)


@commits
def test_after_the_commit_nothing_is_refused(settings):
    began = []
    with transaction.atomic():
        transaction.on_commit(lambda: began.append(InlineWorker()))
    connections["default"].ensure_connection()

    with pytest.raises(AssertionError, match="it has begun"):
        began[0].run()


class InTestCase(TestCase):
    """A transaction around each test, which the test does not see."""

    def test_the_answer_names_the_class_to_use(self):
        plain_effect.enqueue("a job")
        for command in COMMANDS:
            with (
                self.subTest(command),
                self.assertRaisesMessage(CommandError, CLASS),
            ):
                call_command(*command)

        assert Effect.objects.count() == 0
        assert Job.objects.get().state == State.READY

    def test_so_it_does_inside_a_block_and_in_on_commit_callbacks(self):
        with transaction.atomic(), self.assertRaisesMessage(CommandError, CLASS):
            call_command("flush_queue")
        with (
            self.assertRaisesMessage(CommandError, CLASS),
            self.captureOnCommitCallbacks(execute=True),
        ):
            transaction.on_commit(lambda: call_command("flush_queue"))

        assert connection.in_atomic_block
        leave("still usable")
        assert Effect.objects.count() == 1
