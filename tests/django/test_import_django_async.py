"""import_django_async: the queued jobs of Django Async's tables become ours, once."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from aftercommit import groups, schedule
from aftercommit.errors import NotAFunction
from aftercommit.models import Group, Job
from aftercommit.store import store_for
from aftercommit.values import Succeeded
from tests.django import other_tables
from tests.django.other_tables import put
from tests.store.given import claim_one

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

FUNCTION = "tests.app.chores.scheduled"
LATER = datetime(2099, 5, 1, 12, tzinfo=UTC)
TABLES = {
    "async_group": """
        id integer PRIMARY KEY, reference varchar(100) NOT NULL, description {text} NULL,
        created {moment} NOT NULL, final_id integer NULL""",
    "async_job": """
        id integer PRIMARY KEY, name varchar(100) NOT NULL, args {text} NOT NULL,
        kwargs {text} NOT NULL, meta {text} NOT NULL, result {text} NOT NULL,
        priority integer NOT NULL, identity varchar(100) NOT NULL, added {moment} NOT NULL,
        scheduled {moment} NULL, started {moment} NULL, executed {moment} NULL,
        cancelled {moment} NULL, group_id integer NULL""",
    "async_error": """
        id integer PRIMARY KEY, job_id integer NOT NULL, executed {moment} NOT NULL,
        exception {text} NOT NULL, traceback {text} NOT NULL""",
}


@pytest.fixture(autouse=True)
def tables(transactional_db):
    """Make the tables as its migrations do."""
    with other_tables.made(TABLES):
        yield


def old_job(number, *, name=FUNCTION, args='["one"]', **given):
    put(
        "async_job",
        **{
            **{"id": number, "name": name, "args": args, "kwargs": "{}", "meta": "{}"},
            **{"result": "", "priority": 5, "identity": "x", "added": LATER},
            **given,
        },
    )


def cancelled():
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM async_job WHERE cancelled IS NOT NULL ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


def run(capsys, **given):
    call_command("import_django_async", **given)
    return capsys.readouterr().out.strip()


def test_what_is_left_to_do_is_imported_once(capsys):
    old_job(1, priority=7, scheduled=LATER, meta='{"by": "ann"}')
    old_job(2, priority=1000, kwargs="{}", args='["two"]')
    old_job(3, executed=LATER)
    old_job(4, cancelled=LATER)

    assert run(capsys) == "default: 2 jobs and 0 groups of Django Async were imported."

    first, second = Job.objects.order_by("id")
    assert (first.priority, first.run_after) == (7, LATER)
    assert (first.meta["by"], first.meta["django_async"]) == ("ann", 1)
    assert (first.args[1], first.max_attempts) == (["one"], 2**31 - 1)
    assert second.priority == 100
    assert cancelled() == [1, 2, 4]
    assert run(capsys) == "default: 0 jobs and 0 groups of Django Async were imported."
    call_command("flush_queue")
    second.refresh_from_db()
    assert second.return_value == "two"


def test_a_dry_run_changes_nothing(capsys):
    old_job(1)

    assert "1 job and 0 groups" in run(capsys, dry_run=True)

    assert not Job.objects.exists()
    assert cancelled() == []


def test_groups_and_their_final_jobs_are_imported(capsys):
    put("async_group", id=1, reference="import", description="of May", created=LATER)
    put("async_group", id=2, reference="done", created=LATER)
    old_job(1, group_id=1)
    old_job(2, group_id=1, priority=50)
    old_job(3, group_id=2, executed=LATER)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE async_group SET final_id = 2 WHERE id = 1")

    assert "2 jobs and 1 group " in run(capsys)

    found = groups.latest("import")
    assert (found.description, found.total, found.meta) == ("of May", 1, {"django_async": 1})
    assert Group.objects.count() == 1
    store = store_for("default")
    first = claim_one(store)
    store.finish(first, Succeeded("1"))
    assert str(claim_one(store).job_id) == found.last.id


def test_the_number_of_failures_is_kept(capsys):
    old_job(1, name="tests.app.chores.scheduled_and_broken")
    for number in (1, 2):
        put("async_error", id=number, job_id=1, executed=LATER, exception="no", traceback="no")
    run(capsys)
    before = Job.objects.get().run_after

    call_command("flush_queue")

    job = Job.objects.get()
    assert job.attempts == 3
    assert timedelta(seconds=340) < job.run_after - before < timedelta(seconds=420)  # 60 x 3^1.6


def test_functions_that_may_not_be_run_are_named(capsys):
    old_job(1)
    old_job(2, name="os.system", args='["true"]')
    old_job(3, args="no json")

    with pytest.raises(CommandError, match="nothing was imported"):
        call_command("import_django_async")
    assert "os.system: " in capsys.readouterr().err
    assert not Job.objects.exists()
    assert cancelled() == []

    assert "1 job and" in run(capsys, leave=True)
    assert cancelled() == [1]


@pytest.mark.parametrize("raised", ["RuntimeError('no settings')", "KeyError('SECRET')"])
def test_a_module_that_raises_at_its_import_does_not_end_the_others(
    capsys, tmp_path, monkeypatch, settings, raised
):
    (tmp_path / "broken_at_import.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    function = "broken_at_import.send"
    settings.TASKS = with_options(settings.TASKS, allowed_functions=[function, "tests.app"])
    old_job(1, name=function)
    old_job(2)

    assert "1 job and" in run(capsys, leave=True)

    assert cancelled() == [2]
    with pytest.raises(NotAFunction, match=raised.partition("(")[0]):
        schedule(function)


def with_options(tasks, **options):
    """Return a setting ``TASKS`` whose default backend has these options as well."""
    default = tasks["default"]
    return {**tasks, "default": {**default, "OPTIONS": {**default.get("OPTIONS", {}), **options}}}


def test_without_its_tables_there_is_nothing_to_import():
    with pytest.raises(CommandError, match="'other' has no tables of Django Async"):
        call_command("import_django_async", database="other")


def test_jobs_are_imported_where_their_tables_are():
    with pytest.raises(CommandError, match="keeps no jobs in the database 'default'"):
        call_command("import_django_async", backend="other")
