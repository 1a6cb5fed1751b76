"""A database that is not ready for a worker: three reasons, three sentences, three statuses."""

from io import StringIO
from threading import Event

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, connections

from aftercommit.management.subcommands import answers
from aftercommit.store.readiness import Unready, refusal_of
from aftercommit.transient_errors import is_for_now
from tests.worker.rig import commits, sql

pytestmark = commits
VENDOR = connection.vendor
TABLES = ("job", "rule")
RENAME = "ALTER TABLE aftercommit_job RENAME COLUMN {} TO {}"


@pytest.fixture
def start(settings, transactional_db):
    """Return a function that starts a command; it returns the exit status and the complaints."""
    settings.TASKS = {"default": settings.TASKS["default"]}

    def start(*command):
        complained = StringIO()
        try:
            call_command(*command, stdout=StringIO(), stderr=complained)
        except SystemExit as end:
            return end.code, complained.getvalue()
        return 0, complained.getvalue()

    return start


@pytest.fixture
def connecting(monkeypatch):
    """Return a function that changes how the database of the jobs is connected to."""

    def connecting(**changed):
        database = connections["default"]
        database.close()
        given = {**database.settings_dict, **changed}
        monkeypatch.setattr(database, "settings_dict", given)
        monkeypatch.setitem(connections.settings, "default", given)

    yield connecting
    connections["default"].close()


DRAIN = ("aftercommit", "worker", "--drain")
FINITE = [DRAIN, ("flush_queue",)]


def test_a_migrated_database_is_ready():
    assert refusal_of("default") is None


@pytest.mark.parametrize("command", FINITE, ids=lambda one: one[0])
def test_a_column_that_is_not_there_yet_says_migrate(start, command):
    sql(RENAME.format("claimable", "something_else"))
    try:
        status, complained = start(*command)
    finally:
        sql(RENAME.format("something_else", "claimable"))

    assert status == Unready.NOT_MIGRATED.value == 3
    assert "Database 'default' lacks a table or a column of this version" in complained
    assert "Run 'manage.py migrate --database default'." in complained


def test_a_table_that_is_not_there_yet_says_migrate():
    sql("ALTER TABLE aftercommit_lease RENAME TO somewhere_else")
    try:
        found = refusal_of("default")
    finally:
        sql("ALTER TABLE somewhere_else RENAME TO aftercommit_lease")

    assert found.why is Unready.NOT_MIGRATED


ONE = "01a22b4d-547a-7eb7-8d4c-f9dcda6a8f59"
ASKING = [
    "status",
    "status --json",
    "queues",
    "jobs list",
    f"jobs show {ONE}",
    "retry --all",
    "cancel --all --dry-run",
    "move --all --to mail",
    "prune --ended-before 7d",
    "pause mail",
    "resume mail",
    "limit mail --at-once 2",
    "unlimit mail",
    "unlimit mail --dry-run",
]


@pytest.mark.parametrize("command", ASKING)
def test_operators_get_the_sentence_and_the_status_of_the_worker(start, command):
    for table in TABLES:
        sql(f"ALTER TABLE aftercommit_{table} RENAME TO away_{table}")
    try:
        status, complained = start("aftercommit", *command.split())
    finally:
        for table in TABLES:
            sql(f"ALTER TABLE away_{table} RENAME TO aftercommit_{table}")

    assert status == Unready.NOT_MIGRATED.value
    assert complained.startswith("Database 'default' lacks a table or a column of this version")


@pytest.mark.skipif(VENDOR == "sqlite", reason="a file does not go away")
@pytest.mark.parametrize("command", ASKING)
def test_so_they_do_if_it_is_away(start, connecting, command):
    connecting(HOST="127.0.0.1", PORT="1")

    status, complained = start("aftercommit", *command.split())

    assert status == Unready.AWAY.value
    assert complained.startswith("Database 'default' is away (OperationalError): ")


@pytest.mark.parametrize("command", ASKING)
def test_without_a_backend_of_ours_there_is_nothing_to_ask(settings, command):
    settings.TASKS = {}

    with pytest.raises(CommandError, match=r"TASKS names no aftercommit\.DatabaseBackend"):
        call_command("aftercommit", *command.split(), skip_checks=True)


@pytest.mark.skipif(VENDOR == "sqlite", reason="a file has no users")
@pytest.mark.parametrize("command", FINITE, ids=lambda one: one[0])
def test_a_server_that_refuses_says_what_it_says(start, connecting, command):
    connecting(USER="nobody_of_this_name", PASSWORD="wrong")

    status, complained = start(*command)

    assert status == Unready.REFUSES.value == 4
    assert "Database 'default' answers and refuses (OperationalError: " in complained
    assert "nobody_of_this_name" in complained


@pytest.mark.skipif(VENDOR == "sqlite", reason="a file does not go away")
@pytest.mark.parametrize("command", FINITE, ids=lambda one: one[0])
def test_a_server_that_is_away_ends_what_has_an_end(start, connecting, command):
    connecting(HOST="127.0.0.1", PORT="1")

    status, complained = start(*command)

    assert status == Unready.AWAY.value == 5
    assert "Database 'default' is away (OperationalError): " in complained
    assert "waits" not in complained


@pytest.mark.skipif(VENDOR == "sqlite", reason="a file does not go away")
def test_a_worker_without_an_end_waits_for_it(connecting):
    connecting(HOST="127.0.0.1", PORT="1")
    said = []

    assert answers.Answers(said.append).refused(["default"], waits=True) == 0
    assert said[-1] == "This worker waits for it."


def test_a_server_that_does_not_answer_is_away(monkeypatch):
    over = Event()
    monkeypatch.setattr(answers, "TO_ANSWER", answers.LOOK_EVERY)
    monkeypatch.setattr(answers, "refusal_of", lambda _alias: over.wait(60) and None)
    said = []

    status = answers.Answers(said.append).refused(["default"], waits=False)
    over.set()

    assert status == Unready.AWAY.value
    assert said[0].startswith("Database 'default' is away (no answer): ")


def test_a_stop_ends_the_wait(monkeypatch):
    over = Event()
    monkeypatch.setattr(answers, "refusal_of", lambda _alias: over.wait(60) and None)
    said = []

    status = answers.Answers(said.append).refused(["default"], waits=False, enough=lambda: True)
    over.set()

    assert (status, said) == (0, [])


def test_what_is_no_error_of_a_database_is_raised(monkeypatch):
    def refusal_of(alias):
        raise LookupError(alias)

    monkeypatch.setattr(answers, "refusal_of", refusal_of)

    with pytest.raises(LookupError):
        answers.Answers(print).refused(["default"], waits=True)


@pytest.mark.parametrize(
    ("vendor", "cause", "for_now"),
    [
        ("postgresql", "connection refused", True),
        ("postgresql", "at 10.0.0.1: FATAL:  the database system is starting up", True),
        ("postgresql", "at 10.0.0.1: FATAL:  sorry, too many clients already", True),
        ("postgresql", "FATAL: server login has been failing, try again later", True),
        ("postgresql", 'at 10.0.0.1: FATAL:  database "x" does not exist', False),
        ("postgresql", 'FATAL:  password authentication failed for user "x"', False),
        ("mysql", 2003, True),
        ("mysql", 1040, True),
        ("mysql", 1203, True),
        ("mysql", 1045, False),
        ("mysql", 1049, False),
        ("sqlite", "database is locked", True),
        ("sqlite", "unable to open database file", False),
    ],
)
def test_some_refusals_end_by_themselves(vendor, cause, for_now):
    assert is_for_now(OperationalError(cause), vendor=vendor) is for_now
