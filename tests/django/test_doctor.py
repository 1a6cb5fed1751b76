"""``aftercommit doctor``: what a worker would meet, said before there is one."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from aftercommit.models import Job, Lease, WorkerPresence
from tests.django import tasks
from tests.worker.rig import commits, sql

pytestmark = commits
READ_ONLY = {
    "postgresql": ("SET default_transaction_read_only = on", "RESET ALL"),
    "mysql": ("SET SESSION TRANSACTION READ ONLY", "SET SESSION TRANSACTION READ WRITE"),
    "sqlite": ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
}[connection.vendor]


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


def test_a_healthy_database_is_left_as_it_was(doctor):
    status, said, complained = doctor()

    assert (status, complained) == (0, "")
    assert "default: a job can be enqueued, claimed, renewed and finished." in said
    assert "default: 0 worker processes; 0 jobs are ready, no job is due." in said
    assert not (Job.objects.exists() or Lease.objects.exists() or WorkerPresence.objects.exists())


def test_a_database_that_is_read_only_is_a_problem(doctor):
    sql(READ_ONLY[0])
    try:
        status, said, complained = doctor()
    finally:
        sql(READ_ONLY[1])

    assert (status, said) == (1, "")
    assert "default: a worker cannot do its work: " in complained
    assert "read" in complained.lower()


def test_programs_read_json_from_one_output(doctor):
    sql(READ_ONLY[0])
    try:
        status, said, complained = doctor("--json")
    finally:
        sql(READ_ONLY[1])

    (found,) = json.loads(said)
    assert (status, complained, found["is_problem"]) == (1, "", True)
    assert found["text"].startswith("default: a worker cannot do its work: ")


@pytest.mark.parametrize("column", ["token", "crashes", "claimable", "errors", "run_after"])
def test_a_column_that_is_missing_is_a_problem(doctor, column):
    rename = "ALTER TABLE aftercommit_job RENAME COLUMN {} TO {}"
    sql(rename.format(column, "something_else"))
    try:
        status, _said, complained = doctor()
    finally:
        sql(rename.format("something_else", column))

    assert status == 1
    assert "default: a worker cannot do its work: " in complained


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
        status, _said, complained = doctor()
    finally:
        sql("RESET ROLE")
        sql(f"DROP OWNED BY {role}")
        sql(f"DROP ROLE {role}")

    assert status == 1
    assert "permission denied" in complained


@pytest.mark.parametrize("with_worker", [False, True])
def test_jobs_that_wait_without_a_worker_are_a_problem(doctor, with_worker):
    tasks.note.enqueue(1)
    job = Job.objects.get()
    Job.objects.update(run_after=job.run_after - timedelta(hours=1))
    if with_worker:
        WorkerPresence.objects.create(
            id=job.id, host="here", pid=1, started_at=job.enqueued_at, seen_at=job.enqueued_at
        )

    status, said, complained = doctor()

    assert status == (0 if with_worker else 1)
    words = said if with_worker else complained
    assert f"{int(with_worker)} worker processes; 1 jobs are ready, the oldest that" in words
