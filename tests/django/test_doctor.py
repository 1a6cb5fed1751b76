"""``aftercommit doctor``: what is sick or misconfigured, as sentences and as an exit status."""

import json
import re
from datetime import timedelta
from io import StringIO
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection

from aftercommit import chain, jobs, queues
from aftercommit.management.subcommands import answers
from aftercommit.models import Blocked, Dependency, Job, Lease, WorkerPresence
from aftercommit.options.fair import fair_key
from aftercommit.store import store_for
from aftercommit.store.clock import ago
from aftercommit.store.health import OldTransaction
from aftercommit.store.readiness import away
from aftercommit.store.rehearsal import rehearse
from aftercommit.values import NewJob
from aftercommit.version import VERSION
from aftercommit.windows import doctor as rooms
from aftercommit.windows.checks import servers
from aftercommit.windows.doctor import Ailment, server, workers
from tests.app.tasks import add
from tests.django import tasks
from tests.store.given import claim_one
from tests.tables import leave_no_dead_jobs
from tests.worker.rig import commits, sql

pytestmark = commits
READ_ONLY = {
    "postgresql": ("SET default_transaction_read_only = on", "RESET ALL"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"),
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
}[connection.vendor]
HOUR = timedelta(hours=1)


@pytest.fixture
def doctor(settings, transactional_db):
    """Return a function that runs the command here; it returns the exit status and the words."""
    settings.TASKS = {"default": settings.TASKS["default"]}

    def run(*words):
        said, complained = StringIO(), StringIO()
        status = 0
        try:
            call_command("aftercommit", "doctor", *words, stdout=said, stderr=complained)
        except SystemExit as end:
            status = end.code
        return status, said.getvalue(), complained.getvalue()

    return run


@pytest.fixture(autouse=True)
def vacuum(monkeypatch):
    """Let autovacuum be on, also on a server of tests where it is off."""
    monkeypatch.setattr(server.Store, "vacuums_itself", lambda _self: True)
    for bound in ("MANY_DEAD", "MUCH_UNDO", "MUCH_FREE"):  # what other tests have left
        monkeypatch.setattr(server, bound, 2**62)
    return monkeypatch


@pytest.fixture
def problems(doctor):
    """Return a function that runs the command; it returns the problems, and the exit status."""
    if connection.vendor == "sqlite":
        sql("VACUUM")  # what other tests have left

    def run():
        status, said, _ = doctor("--json")
        return [one for one in json.loads(said) if one["is_problem"]], status

    return run


@pytest.fixture
def other():
    """Return a connection of somebody else."""
    other = connection.copy()
    yield other
    other.close()


def due_for(span, **given):
    """Enqueue a job that has been due for so long."""
    tasks.note.using(**given).enqueue(1)
    Job.objects.filter(state="ready").update(run_after=ago(span))


def worker(**given):
    """Let a worker process be seen."""
    worker_id = uuid4()
    store_for("default").workers.announce(worker_id, locked=False)
    WorkerPresence.objects.filter(id=worker_id).update(**given)


def test_a_healthy_database_is_left_as_it_was(doctor):
    status, said, complained = doctor()

    assert (status, complained) == (0, "")
    assert "default: A job can be enqueued, claimed, renewed and finished." in said
    assert "default: 0 worker processes; 0 jobs ready, no job is due." in said
    assert not (Job.objects.exists() or Lease.objects.exists() or WorkerPresence.objects.exists())


def test_a_database_that_is_read_only_is_a_problem(doctor):
    sql(READ_ONLY[0])
    try:
        status, _said, complained = doctor()
    finally:
        sql(READ_ONLY[1])

    assert status == Ailment.WORK
    assert "default: A worker cannot do its work: " in complained
    assert "read" in complained.lower()


def test_programs_read_json_from_one_output(doctor):
    sql(READ_ONLY[0])
    try:
        status, said, complained = doctor("--json")
    finally:
        sql(READ_ONLY[1])

    found = json.loads(said)[0]
    assert (status, complained, found["is_problem"]) == (Ailment.WORK, "", True)
    assert (found["database"], found["check"], found["exit_status"]) == ("default", "work", 4)
    assert found["text"].startswith("A worker cannot do its work: ")
    assert found["cure"]


def test_one_database_is_examined_if_it_is_named(doctor, settings):
    backend = settings.TASKS["default"]
    there = {**backend, "OPTIONS": {**backend["OPTIONS"], "using": "other"}}
    settings.TASKS = {"default": backend, "other": there}

    status, said, _ = doctor("--json", "--database", "default")

    assert (status, {one["database"] for one in json.loads(said)}) == (0, {"default"})
    with pytest.raises(CommandError, match="known: default, other"):
        doctor("--database", "gone")


def test_each_kind_of_problem_is_a_bit_of_the_exit_status(problems):
    due_for(HOUR)
    worker(version="0.0.1")

    found, status = problems()

    assert {one["check"] for one in found} == {"no-worker", "versions"}
    assert status == Ailment.NOBODY | Ailment.APART == 24


@pytest.mark.parametrize("column", ["token", "crashes", "claimable", "errors", "run_after"])
def test_a_column_that_is_missing_is_a_problem(problems, column):
    rename = "ALTER TABLE aftercommit_job RENAME COLUMN {} TO {}"
    sql(rename.format(column, "something_else"))
    try:
        (found,), status = problems()
    finally:
        sql(rename.format("something_else", column))

    assert (status, found["check"]) == (Ailment.WORK, "not-migrated")
    assert "migrate" in found["cure"]


def test_a_database_that_does_not_answer_is_away(problems, monkeypatch):
    monkeypatch.setattr(answers, "refusal_of", away)

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.WORK, "away")


@pytest.mark.parametrize("right", ["UPDATE", "INSERT", "DELETE"])
def test_a_right_that_is_missing_is_a_problem(doctor, right):
    if connection.vendor != "postgresql":
        pytest.skip("a session can take another role on PostgreSQL only")
    given = ", ".join({"SELECT", "UPDATE", "INSERT", "DELETE"} - {right})
    role = f"{connection.settings_dict['NAME']}_weak"
    sql(f"CREATE ROLE {role}")
    sql(f"GRANT {given} ON ALL TABLES IN SCHEMA public TO {role}")
    sql(f"SET ROLE {role}")
    try:
        store = store_for("default")
        with pytest.raises(Exception, match="permission denied"):
            rehearse(store)
        found = [one for one in rooms.examine("default") if one.is_problem]
    finally:
        sql("RESET ROLE")
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")

    assert [(one.check, one.ailment) for one in found] == [("work", Ailment.WORK)]
    assert "permission denied" in found[0].text


# ---- jobs that wait -----------------------------------------------------------------


def test_jobs_that_wait_without_a_worker_are_a_problem(problems):
    due_for(HOUR)

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "no-worker")
    assert "Jobs of the queue default have been due for up to 1 h" in found["text"]
    assert found["cure"] == "Run 'manage.py aftercommit worker'."


def test_so_they_are_if_workers_run_that_leave_their_queue(problems):
    due_for(HOUR)
    worker()

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "no-worker")
    assert "for this queue" in found["cure"]


@pytest.mark.parametrize("span", [timedelta(minutes=1), -HOUR], ids=str)
def test_a_job_of_a_moment_ago_or_for_later_is_none(problems, span):
    due_for(span)

    assert problems() == ([], 0)


def test_a_queue_that_is_served_may_be_behind(problems):
    due_for(HOUR)
    due_for(HOUR)
    claim_one(store_for("default"))
    worker()

    assert problems() == ([], 0)


def test_a_paused_queue_is_meant_to_wait(problems):
    due_for(HOUR)
    queues.pause("default")

    assert problems() == ([], 0)


def test_so_is_a_paused_task_but_not_what_waits_beside_it(problems):
    due_for(HOUR)
    queues.pause(task=tasks.note)
    assert problems() == ([], 0)

    add.enqueue(1, 2)
    Job.objects.update(run_after=ago(HOUR))
    (found,), _ = problems()
    assert found["check"] == "no-worker"


def test_jobs_that_wait_for_their_turn_are_due_as_well(problems):
    key = fair_key("default", "default", "ann", gated=False)
    given = {"task_path": add.module_path, "payload": "{}", "limit_key": key, "fair_key": key}
    store_for("default").insert([NewJob(**given)])
    Job.objects.update(run_after=ago(HOUR))

    assert [one["check"] for one in problems()[0]] == ["no-worker"]
    queues.pause(task=tasks.note)
    assert [one["check"] for one in problems()[0]] == ["no-worker"]
    queues.pause(task=add)
    assert problems() == ([], 0)


@pytest.mark.parametrize("reason", [Blocked.LIMIT, Blocked.RATE])
def test_jobs_that_wait_for_a_limit_or_a_rate_need_a_worker(problems, reason):
    due_for(HOUR, queue_name="mail")
    parked = {"blocked": reason, "limit_key": "k", "claimable": False, "waits_for": 1}
    line = {"line": "k", "rate_key": "k"} if reason == Blocked.RATE else {}
    Job.objects.update(**parked, **line)

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "no-worker")
    assert "Jobs of the queue mail have been due for up to 1 h" in found["text"]
    due_for(HOUR, queue_name="other")  # beside one that waits for nothing
    assert len(problems()[0]) == 2
    Job.objects.filter(queue="other").delete()
    queues.pause(task=tasks.note)
    assert problems() == ([], 0)
    queues.resume(task=tasks.note)
    queues.pause("mail")
    assert problems() == ([], 0)
    queues.resume("mail")
    worker()  # which lets them wait for as long as the rule says
    assert problems() == ([], 0)
    Job.objects.update(run_after=ago(timedelta(minutes=1)))
    WorkerPresence.objects.all().delete()
    assert problems() == ([], 0)


def test_a_graph_that_goes_on_is_no_problem(problems):
    worker()
    chain(*(tasks.note.bind(one) for one in range(3))).enqueue()

    assert problems() == ([], 0)


def test_a_job_that_waits_for_nothing_is_a_problem(problems):
    worker()
    last = chain(tasks.note.bind(1), tasks.note.bind(2)).enqueue()
    Dependency.objects.all().delete()

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "waits-for-nothing")
    assert f"1 job ({last.id}) waits for other jobs, and no row" in found["text"]
    assert found["cure"].startswith("Cancel and retry")
    jobs.find(ids=[last.id]).cancel()
    jobs.find(ids=[last.id]).retry()
    assert problems() == ([], 0)
    assert Job.objects.get(id=last.id).claimable


def test_jobs_that_wait_for_each_other_are_a_problem(problems):
    worker()
    last = chain(*(tasks.note.bind(one) for one in range(4))).enqueue()
    first, second, *_ = Job.objects.order_by("id").values_list("id", flat=True)
    Job.objects.filter(id=first).update(claimable=False, waits_for=1, blocked=Blocked.JOBS)
    Dependency.objects.create(job_id=first, needs_id=second, on_failure="run")

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "waits-in-a-circle")
    assert f"4 jobs ({first}, {second}, " in found["text"]
    assert last.id not in found["text"]


@pytest.mark.parametrize("how", ["gone", "ended"])
def test_an_end_that_nobody_notices_is_a_problem_without_a_worker(how, problems):
    chain(tasks.note.bind(1), tasks.note.bind(2)).enqueue()
    first = Job.objects.filter(claimable=True)
    if how == "gone":
        first.delete()
    else:  # by a program that knows no edges
        first.update(claimable=False, state="succeeded", finished_at=ago(HOUR))

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "end-not-noticed")
    worker()
    assert problems() == ([], 0)


def test_tasks_that_nobody_knows_are_named(problems):
    due_for(HOUR)
    Job.objects.update(task_path="shop.gone.charge")

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.NOBODY, "unknown-tasks")
    assert "'shop.gone.charge'" in found["text"]
    assert "aliases" in found["cure"]


# ---- workers ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, []),
        ({"version": "9.9"}, ["9.9 as "]),
        ({"version": None}, ["an earlier version as "]),
        ({"version": "9.9", "seen_at": ago(HOUR)}, []),
    ],
    ids=str,
)
def test_workers_of_another_version_are_named(problems, given, said):
    worker()
    worker(**given)

    found, status = problems()

    assert status == (Ailment.APART if said else 0)
    assert [one["check"] for one in found] == ["versions"] * len(said)
    assert all(text in one["text"] and VERSION in one["text"] for text in said for one in found)


@pytest.mark.parametrize(("apart", "side"), [(HOUR, "ahead of"), (-HOUR, "behind")], ids=str)
def test_a_worker_whose_clock_is_wrong_is_named(problems, apart, side):
    worker()
    worker(clock=ago(-apart), host="elsewhere")

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.APART, "clocks")
    assert "The clock of elsewhere:" in found["text"]
    assert f" {side} the database's" in found["text"]


def test_a_wrong_clock_of_its_own_is_told(problems, monkeypatch):
    known = workers.Store.clock_ahead
    monkeypatch.setattr(workers.Store, "clock_ahead", lambda self: known(self) + HOUR)

    (found,), status = problems()

    assert status == Ailment.APART
    assert "The clock of this program is 1 h ahead of" in found["text"]


# ---- the database -------------------------------------------------------------------


def test_an_index_that_is_missing_is_a_problem(problems):
    on = " ON aftercommit_job" if connection.vendor == "mysql" else ""
    leave_no_dead_jobs()
    sql(f"DROP INDEX aftercommit_job_crashed{on}")
    (found,), status = problems()
    sql(found["cure"].partition("execute: ")[2])

    assert (status, found["check"]) == (Ailment.DATABASE, "W013")
    assert "aftercommit_job_crashed" in found["text"]
    assert problems() == ([], 0)


def test_a_pooler_that_breaks_session_locks_is_told(problems, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL has such poolers")
    monkeypatch.setattr(servers, "_is_pooled", lambda _database: True)

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.DATABASE, "W010")


def test_dead_rows_are_a_problem_where_vacuum_does_not_remove_them(problems, monkeypatch):
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL has dead rows")
    monkeypatch.setattr(server, "MANY_DEAD", 20)
    sql("ALTER TABLE aftercommit_received SET (autovacuum_enabled = off)")
    sql("VACUUM aftercommit_received")
    sql(
        "INSERT INTO aftercommit_received (message_id, consumer, received_at) "
        "SELECT i, 'c', now() FROM generate_series(1, 30) AS i"
    )
    sql("UPDATE aftercommit_received SET consumer = 'd'")
    sql("SELECT pg_stat_force_next_flush()")
    try:
        found, status = problems()
    finally:
        sql("ALTER TABLE aftercommit_received RESET (autovacuum_enabled)")

    mine = [one for one in found if "aftercommit_received" in one["text"]]
    assert status == Ailment.DATABASE
    assert [one["check"] for one in mine] == ["vacuum", "dead-rows"]
    # Rows that earlier tests deleted are dead rows of the same table.
    dead, alive = re.search(r"has (\d+) dead rows beside (\d+)", mine[1]["text"]).groups()
    assert int(dead) >= 30
    assert alive == "30"
    assert "RESET (autovacuum_enabled)" in mine[0]["cure"]
    sql("VACUUM aftercommit_received")
    sql("SELECT pg_stat_force_next_flush()")
    assert not [one for one in problems()[0] if "aftercommit_received" in one["text"]]


def test_a_server_that_does_not_vacuum_is_told(problems, vacuum):
    vacuum.undo()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW autovacuum")
            assert store_for("default").vacuums_itself() == (cursor.fetchone() == ("on",))
    else:
        assert store_for("default").vacuums_itself()
    vacuum.setattr(server.Store, "vacuums_itself", lambda _self: False)

    (found,), status = problems()

    assert (status, found["check"]) == (Ailment.DATABASE, "vacuum")


def test_what_innodb_has_not_purged_is_a_problem(problems, other, monkeypatch):
    if connection.vendor != "mysql":
        pytest.skip("InnoDB keeps undo logs")
    monkeypatch.setattr(server, "MUCH_UNDO", 20)
    with other.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        tasks.note.enqueue(1)
        for number in range(60):
            sql(f"UPDATE aftercommit_job SET priority = {number}")
        found, status = problems()
        cursor.execute("ROLLBACK")

    assert status == Ailment.DATABASE
    assert [one["check"] for one in found] == ["dead-rows"]


def test_a_file_of_sqlite_that_is_mostly_free_is_a_problem(problems, monkeypatch):
    if connection.vendor != "sqlite":
        pytest.skip("only SQLite keeps free pages in its file")
    monkeypatch.setattr(server, "MUCH_FREE", 100_000)
    sql("CREATE TABLE filler AS SELECT zeroblob(20000000) AS content")
    sql("DROP TABLE filler")
    try:
        (found,), status = problems()
    finally:
        sql("VACUUM")

    assert (status, found["check"]) == (Ailment.DATABASE, "dead-rows")
    assert "of the file of SQLite is free (19 MiB)" in found["text"]
    assert problems() == ([], 0)


def test_a_transaction_that_does_not_end_is_a_problem(problems, other, monkeypatch):
    if connection.vendor == "sqlite":
        pytest.skip("SQLite does not say who reads")
    tasks.note.enqueue(1)
    with other.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("UPDATE aftercommit_job SET priority = 3")
        assert problems() == ([], 0)  # it is young
        monkeypatch.setattr(server, "LONG", timedelta(0))
        found, status = problems()
        cursor.execute("ROLLBACK")

    mine = [one for one in found if one["check"] == "long-transaction"]
    assert status == Ailment.DATABASE
    assert "A transaction has been open for" in mine[0]["text"]


def test_of_many_long_transactions_the_oldest_are_named(problems, monkeypatch):
    several = [OldTransaction(f"session {number}", HOUR) for number in range(8)]
    monkeypatch.setattr(server.Store, "old_transactions", lambda _self, **_: several)

    found, status = problems()

    assert status == Ailment.DATABASE
    assert len(found) == 6
    assert "There are 3 more" in found[-1]["text"]


def test_what_cannot_be_asked_does_not_hide_the_rest(problems, monkeypatch):
    def refuse(_self, **_given):
        raise ProgrammingError("permission denied")

    monkeypatch.setattr(server.Store, "unserved", refuse)
    worker(version="9.9")

    found, status = problems()

    assert {one["check"] for one in found} == {"waiting", "versions"}
    assert status == Ailment.WORK | Ailment.APART
