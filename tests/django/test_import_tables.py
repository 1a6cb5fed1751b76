"""aftercommit import: the waiting rows of other queues' tables become jobs, once."""

import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from procrastinate import App, SyncPsycopgConnector
from procrastinate.schema import SchemaManager
from psycopg.conninfo import make_conninfo

from aftercommit import task
from aftercommit.errors import AftercommitError
from aftercommit.importing.calls import Calls
from aftercommit.importing.procrastinate import Procrastinate
from aftercommit.importing.run import Import
from aftercommit.models import Job
from tests.django import other_tables
from tests.django.other_tables import put

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

LATER = datetime(2099, 5, 1, 12, tzinfo=UTC)
BEFORE = datetime(2020, 5, 1, 12, tzinfo=UTC)
HERE = f"{__name__}.imported"
IDS = [f"6c0a1b9e-0000-4000-8000-00000000000{number}" for number in range(1, 10)]
# As the migrations of each make them, without what no importer reads.
TABLES = {
    "django_tasks_database_dbtaskresult": """
        id {uuid} PRIMARY KEY, status varchar(11) NOT NULL, enqueued_at {moment} NOT NULL,
        args_kwargs {json} NOT NULL, priority integer NOT NULL, task_path {text} NOT NULL,
        queue_name varchar(32) NOT NULL, run_after {moment} NOT NULL""",
    "procrastinate_jobs": """
        id integer PRIMARY KEY, queue_name varchar(128) NOT NULL,
        task_name varchar(128) NOT NULL, priority integer NOT NULL, args {json} NOT NULL,
        status varchar(20) NOT NULL, scheduled_at {moment} NULL""",
    "background_task": """
        id integer PRIMARY KEY, task_name varchar(190) NOT NULL, task_params {text} NOT NULL,
        queue varchar(190) NULL, priority integer NOT NULL, run_at {moment} NOT NULL,
        {repeat} bigint NOT NULL, failed_at {moment} NULL, locked_by varchar(64) NULL""",
    "django_q_schedule": """
        id integer PRIMARY KEY, func varchar(256) NOT NULL, hook varchar(256) NULL,
        args {text} NULL, kwargs {text} NULL, schedule_type varchar(2) NOT NULL,
        minutes smallint NULL, repeats integer NOT NULL, next_run {moment} NULL,
        cron varchar(100) NULL, intended_date_kwarg varchar(100) NULL""",
    "django_q_ormq": "id integer PRIMARY KEY, payload {text} NOT NULL",
}


@task
def imported(first, *, second="none"):
    """Be called by queues of others."""
    return f"{first} {second}"


@task(unique="until_finished", on_conflict="raise")
def imported_alone(first):
    """Be queued once."""


@task(backend="other")
def imported_elsewhere(first):
    """Be kept in the other database."""


@pytest.fixture(autouse=True)
def tables(transactional_db):
    with other_tables.made(TABLES):
        yield


def tasks_db(number, *, path=HERE, args=("one",), **given):
    key = (
        IDS[number] if connection.features.has_native_uuid_field else IDS[number].replace("-", "")
    )
    usual = {
        "id": key,
        "status": "READY",
        "enqueued_at": BEFORE,
        "args_kwargs": {"args": list(args), "kwargs": {}},
        "priority": 0,
        "task_path": path,
        "queue_name": "default",
        "run_after": datetime(9999, 1, 1, tzinfo=UTC),
    }
    put("django_tasks_database_dbtaskresult", **{**usual, **given})


def procrastinated(number, *, name=HERE, **given):
    usual = {
        "id": number,
        "queue_name": "default",
        "task_name": name,
        "priority": 0,
        "args": {"first": "one"},
        "status": "todo",
    }
    put("procrastinate_jobs", **{**usual, **given})


def background(number, *, name=HERE, **given):
    usual = {
        "id": number,
        "task_name": name,
        "task_params": '[["one"], {}]',
        "priority": 0,
        "run_at": BEFORE,
        "repeat": 0,
    }
    put("background_task", **{**usual, **given})


def scheduled(number, **given):
    usual = {"id": number, "func": HERE, "args": "'one',", "schedule_type": "O", "repeats": -1}
    put("django_q_schedule", **{**usual, "next_run": LATER, **given})


def rows(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]


def run(capsys, source, *words):
    """Return the exit status, what is said, and what is complained about."""
    status = 0
    try:
        call_command("aftercommit", "import", source, *words)
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    return status, said.out.strip(), said.err.strip()


def calls():
    """Return the calls that are jobs, in the order in which workers start them."""
    found = Job.objects.order_by("id")
    return [(job.task_path, list(job.args), dict(job.kwargs)) for job in found]


def test_what_waits_in_django_tasks_db_is_imported_once_and_its_row_is_gone(capsys):
    tasks_db(2, args=["two"], priority=7, run_after=LATER, queue_name="mail")
    tasks_db(1, enqueued_at=LATER, args=["later"])
    tasks_db(3, status="RUNNING")
    tasks_db(4, status="SUCCESSFUL")

    status, out, err = run(capsys, "django-tasks-db")

    assert (status, err) == (0, "1 message not looked at: held by workers of the other queue.")
    assert out.endswith("default: 2 messages of django-tasks-db were imported.")
    first, second = Job.objects.order_by("id")
    assert (first.priority, first.run_after, first.queue) == (7, LATER, "mail")
    assert first.meta == {"imported_from": "django-tasks-db", "message": IDS[2]}
    assert second.args == ["later"]
    assert second.run_after <= datetime.now(UTC)
    left = rows("SELECT status FROM django_tasks_database_dbtaskresult ORDER BY status")
    assert left == ["RUNNING", "SUCCESSFUL"]
    assert run(capsys, "django-tasks-db")[1].endswith(
        "0 messages of django-tasks-db were imported."
    )


def test_what_waits_in_procrastinate_is_imported_once_and_its_row_is_cancelled(capsys):
    procrastinated(1, args={"first": "one", "second": "two"}, priority=1000, scheduled_at=LATER)
    procrastinated(2, status="doing")
    procrastinated(3, name="builtin:procrastinate.builtin_tasks.remove_old_jobs")

    status, out, err = run(capsys, "procrastinate")

    assert status == 7
    assert "1 message left: it looks after procrastinate's own tables" in err
    assert out.endswith("1 message of procrastinate was imported, 1 left.")
    job = Job.objects.get()
    assert (job.kwargs, job.priority) == ({"first": "one", "second": "two"}, 100)
    assert job.run_after == LATER
    statuses = rows("SELECT status FROM procrastinate_jobs ORDER BY id")
    assert statuses == ["cancelled", "doing", "todo"]


def test_what_waits_in_django_background_tasks_is_imported_but_what_repeats(capsys, settings):
    settings.BACKGROUND_TASK_PRIORITY_ORDERING = "ASC"
    background(1, priority=3)
    background(2, repeat=3600)
    background(3, locked_by="711")
    background(4, failed_at=BEFORE)

    status, _out, err = run(capsys, "django-background-tasks")

    assert status == 7
    assert "1 message left: it repeats every 3600 s: declare every= on the task" in err
    assert [job.priority for job in Job.objects.all()] == [-3]
    assert rows("SELECT id FROM background_task ORDER BY id") == [2, 3, 4]


def test_what_django_q2_is_to_run_once_is_imported_and_its_pickles_are_not_read(capsys):
    scheduled(1)
    scheduled(2, args="'two'", kwargs="{'second': [1, None]}")
    scheduled(3, args=None, kwargs="first='three', second=True")
    scheduled(4, repeats=0)
    put("django_q_ormq", id=1, payload="gASVBAAAAAAAAABOLg==:signed")

    status, out, err = run(capsys, "django-q2")

    assert status == 0
    assert err == (
        "1 message not looked at: they are pickled, which is never loaded: let the cluster run "
        "them."
    )
    assert out.endswith("3 messages of django-q2 were imported.")
    assert [(args, kwargs) for _path, args, kwargs in calls()] == [
        (["one"], {}),
        (["two"], {"second": [1, None]}),
        ([], {"first": "three", "second": True}),
    ]
    assert {job.run_after for job in Job.objects.all()} == {LATER}
    assert rows("SELECT id FROM django_q_schedule") == [4]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"schedule_type": "C", "cron": "0 4 * * *"}, "declare cron='0 4 * * *' on the task"),
        ({"schedule_type": "I", "minutes": 5}, "it repeats, each 5 minutes"),
        ({"schedule_type": "BW"}, "it repeats, each two weeks"),
        ({"hook": "print"}, "it has a hook"),
        ({"kwargs": "q_options={'group': 'x'}"}, "it has q_options"),
        ({"args": "__import__('os')"}, "its arguments are no literals"),
        ({"kwargs": "1, 2"}, "its arguments are no literals"),
        ({"kwargs": "**x"}, "its arguments are no literals"),
    ],
)
def test_schedules_of_django_q2_that_are_more_than_a_call_are_left(given, why, capsys):
    scheduled(1, **given)

    status, _out, err = run(capsys, "django-q2")

    assert status == 7
    assert why in err
    assert not Job.objects.exists()


def test_a_dry_run_changes_nothing(capsys):
    tasks_db(1)
    procrastinated(1)
    background(1)

    for source in ("django-tasks-db", "procrastinate", "django-background-tasks"):
        out = run(capsys, source, "--dry-run")[1]
        assert out.endswith(f"1 message of {source} would be imported.")

    assert not Job.objects.exists()
    assert rows("SELECT COUNT(*) FROM background_task") == [1]
    assert rows("SELECT COUNT(*) FROM django_tasks_database_dbtaskresult") == [1]
    assert rows("SELECT status FROM procrastinate_jobs") == ["todo"]


def test_a_name_is_mapped_and_what_cannot_be_a_job_is_named_and_left(capsys):
    procrastinated(1, name="mail")
    procrastinated(2, name="nobody.knows")
    procrastinated(3, args={"third": 1})
    procrastinated(4, name="tests.app.tasks.add", args={"first": 1, "second": 2})

    status, out, err = run(capsys, "procrastinate", "--task", f"mail={HERE}", "--batch-size", "1")

    assert status == 7
    assert "nobody.knows: 1 message left: no task 'nobody.knows' is declared here" in err
    assert f"{HERE}: 1 message left: imported()" in err
    assert "2 messages of procrastinate were imported, 2 left." in out
    assert [path for path, _args, _kwargs in calls()] == [HERE, "tests.app.tasks.add"]
    statuses = rows("SELECT status FROM procrastinate_jobs ORDER BY id")
    assert statuses == ["cancelled", "todo", "todo", "cancelled"]


def test_batches_end_at_the_limit_and_the_next_run_goes_on(capsys):
    for number in range(5):
        background(number)

    out = run(capsys, "django-background-tasks", "--limit", "3", "--batch-size", "2", "--json")[1]

    assert json.loads(out)["imported"] == {HERE: 3}
    assert rows("SELECT id FROM background_task ORDER BY id") == [3, 4]
    assert run(capsys, "django-background-tasks")[0] == 0
    assert Job.objects.count() == 5


def test_equal_calls_of_a_unique_task_are_one_job(capsys):
    for number in range(2):
        background(number, name=f"{__name__}.imported_alone")

    assert run(capsys, "django-background-tasks")[0] == 0

    assert Job.objects.count() == 1
    assert rows("SELECT COUNT(*) FROM background_task") == [0]


@pytest.mark.parametrize("at", ["take", "insert"])
def test_an_error_in_a_batch_leaves_its_rows_and_no_job(at, monkeypatch):
    """What a death of the process leaves as well: both are one transaction."""
    procrastinated(1)
    procrastinated(2)
    source = Procrastinate("default")
    importing = Import(source, Calls(using="default", source="x", names={}), using="default")
    before, seen = importing._insert, []

    def broken(message):
        seen.append(message)
        if len(seen) == 2:
            raise AftercommitError("broken")
        return before(message)

    def taken(messages):
        raise AftercommitError("broken")

    if at == "insert":
        monkeypatch.setattr(importing, "_insert", broken)
    else:
        monkeypatch.setattr(source, "take", taken)
    with pytest.raises(AftercommitError):
        importing.run()

    assert not Job.objects.exists()
    assert rows("SELECT status FROM procrastinate_jobs") == ["todo", "todo"]


def test_a_row_that_a_worker_has_locked_is_left_to_it(capsys):
    if not connection.features.has_select_for_update_skip_locked:
        pytest.skip("no rows are locked")
    procrastinated(1)
    procrastinated(2)
    worker = connections["default"].copy()
    try:
        worker.set_autocommit(False)
        with worker.cursor() as cursor:
            cursor.execute("SELECT id FROM procrastinate_jobs WHERE id = 1 FOR UPDATE")

        out = run(capsys, "procrastinate")[1]
    finally:
        worker.close()

    assert out.endswith("1 message of procrastinate was imported.")
    assert rows("SELECT status FROM procrastinate_jobs ORDER BY id") == ["todo", "cancelled"]


def test_jobs_of_another_database_are_left(capsys):
    background(1, name=imported_elsewhere.module_path)

    status, _out, err = run(capsys, "django-background-tasks")

    assert status == 7
    assert "are in the database 'other': import it by --database other" in err


def test_a_table_that_is_not_there_is_said(capsys):
    with pytest.raises(CommandError, match="'other' has no table 'background_task'"):
        call_command("aftercommit", "import", "django-background-tasks", database="other")


def test_a_table_takes_no_address(capsys):
    with pytest.raises(CommandError, match="it takes neither --url"):
        call_command("aftercommit", "import", "procrastinate", queue=["mail"])


@pytest.fixture
def procrastinates():
    """Return an app of the real library, in a schema of its own."""
    if connection.vendor != "postgresql":
        pytest.skip("procrastinate needs PostgreSQL")
    given = connection.get_connection_params()
    names = ("host", "port", "user", "password", "dbname")
    reached = {name: given[name] for name in names if name in given}
    with connection.cursor() as cursor:
        cursor.execute("CREATE SCHEMA their_own")
        cursor.execute("SET search_path TO their_own, public")
        cursor.execute(SchemaManager.get_schema())
    where = make_conninfo(**reached, options="-c search_path=their_own")
    connector = SyncPsycopgConnector(conninfo=where)
    try:
        with App(connector=connector).open() as app:
            yield app
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET search_path TO public")
            cursor.execute("DROP SCHEMA their_own CASCADE")


def test_what_waits_in_the_table_of_the_real_procrastinate_is_imported(procrastinates, capsys):
    call = procrastinates.configure_task(HERE, schedule_at=LATER, priority=5, lock="x")
    call.defer(first="one", second="two")

    status, _out, err = run(capsys, "procrastinate")

    assert (status, err) == (0, "")
    job = Job.objects.get()
    assert (job.kwargs, job.priority) == ({"first": "one", "second": "two"}, 5)
    assert job.run_after == LATER
    assert rows("SELECT status FROM procrastinate_jobs") == ["cancelled"]
    assert rows("SELECT type FROM procrastinate_events ORDER BY id")[-1] == "cancelled"
