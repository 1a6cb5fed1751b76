"""A value that is too large for the database: its own job ends with the reason, alone."""

import json
import sqlite3

import pytest
from django.db import OperationalError, connection
from django.db.backends.utils import CursorWrapper

from aftercommit.errors import PayloadTooLarge
from aftercommit.models import Job, State
from aftercommit.values import Failed, Retry, RunError, RunResult, Succeeded
from tests.worker.rig import commits, effects, leave, sql

pytestmark = commits

LIMIT = 200_000  # where it can be set for this test alone
DONE = RunResult(outcome=Succeeded("1"))


@pytest.fixture
def limit(rig):
    """Return how long a text the database takes no longer: the server's limit, or ours."""
    if connection.vendor == "mysql":
        yield sql("SELECT @@max_allowed_packet")[0][0] // 2  # quotes are escaped
    elif connection.vendor == "sqlite":
        connection.ensure_connection()
        raw = connection.connection
        before = raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LIMIT)
        yield LIMIT
        raw.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, before)
    else:
        for column in ("result", "errors", "payload"):
            sql(
                f"ALTER TABLE aftercommit_job ADD CONSTRAINT short_{column} "
                f"CHECK (length({column}) < {LIMIT})"
            )
        yield LIMIT
        for column in ("result", "errors", "payload"):
            sql(f"ALTER TABLE aftercommit_job DROP CONSTRAINT short_{column}")


def hand_over(rig, *results):
    """Claim a job for each result, and give them to the finisher."""
    claims = [rig.claim(rig.enqueue(lambda context: None)) for _result in results]
    for claim, result in zip(claims, results, strict=True):
        rig.put(claim, result)
    return [claim.job_id for claim in claims]


def written(rig, job_ids):
    """Return the states of jobs, in their order."""
    return [str(rig.job(job_id).state) for job_id in job_ids]


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("company", [0, 2])
def test_a_result_fails_alone(rig, limit, place, company):
    results = [DONE] * company
    place = min(place, company)
    results.insert(place, RunResult(outcome=Succeeded('"' * limit)))
    job_ids = hand_over(rig, *results)
    while not rig.finisher.empty:  # a batch ends with what is large
        rig.finish_whatever_happens(tries=2)

    culprit = rig.job(job_ids[place])
    states = ["succeeded"] * company
    states.insert(place, "failed")
    assert written(rig, job_ids) == states
    assert "could not be stored" in culprit.error_list[0]["traceback"]
    assert len(culprit.errors) < 2000
    assert rig.finisher.empty
    (told,) = [one for claim, one in rig.written if claim.job_id == culprit.id]
    assert isinstance(told.outcome, Failed)


def test_the_reason_says_what_was_too_large(rig, limit, vendor):
    if vendor != "mysql":
        pytest.skip("other databases say it themselves")
    (job_id,) = hand_over(rig, RunResult(outcome=Succeeded('"' * limit)))
    rig.finish_whatever_happens(tries=1)

    (error,) = rig.job(job_id).error_list
    assert "the result, escaped for the database (max_allowed_packet)" in error["traceback"]


def test_errors_of_earlier_runs_are_left_out_before_the_last_one(rig, limit):
    """They are many tracebacks, and each character may take six bytes."""
    error = RunError(exception_class_path="builtins.ValueError", traceback="the last one")
    (job_id,) = hand_over(rig, DONE)
    rig.runs.remove(rig.claims[0])
    entry = {"exception_class_path": "E", "traceback": "x" * 2 * limit, "worker_id": "none"}
    claim = rig.claims[0]._replace(errors=json.dumps([entry]))
    rig._held.clear()
    while not rig.finisher.empty:
        rig.finisher._results.popleft()
    rig.put(claim, RunResult(outcome=Retry(error, rig.options.lease)))
    rig.finish_whatever_happens(tries=1)

    job = rig.job(job_id)
    assert job.state == State.READY
    assert [one["traceback"] for one in job.error_list] == ["the last one"]


@pytest.mark.parametrize("kind", ["atomic", "commit", "plain"])
def test_a_return_value_ends_its_run_and_undoes_its_effects(rig, limit, kind, vendor):
    if vendor != "mysql":
        pytest.skip("the value is larger than max_payload, by which others are refused before")

    def body(context):
        if kind != "commit":
            leave("effect")
            return "€" * count
        with context.commit() as finish:
            leave("effect")
            finish.return_value = "€" * count
        return None

    count = limit // 3  # six bytes each, and the backslash twice
    rig.options = rig.options.__class__(max_payload=100 * limit)
    job = rig.run(body, atomic=kind == "atomic", max_attempts=5)

    assert (job.state, job.attempts, job.conflicts) == (State.FAILED, 1, 0)
    assert "max_allowed_packet" in job.error_list[0]["traceback"]
    assert effects("effect") == (kind == "plain")


def test_many_jobs_are_inserted_in_statements_that_fit(rig, limit, vendor):
    if vendor != "mysql":
        pytest.skip("only here a statement has a limit that many rows together may exceed")
    claim = rig.claim(rig.enqueue(lambda context: None))
    task = rig.facts_of(claim).task
    rig.options = rig.options.__class__(max_payload=100 * limit)
    part = '"' * (limit // 20)  # JSON escapes them, and MySQL that
    task.enqueue_many([(part,)] * 20)

    assert Job.objects.exclude(pk=claim.job_id).count() == 20


class Refusing:
    """Loses the connection whenever a certain text is sent, as a proxy in between may do."""

    def __init__(self, monkeypatch, text):
        self.refused = 0
        real = CursorWrapper._execute

        def execute(cursor, statement, params, *more):
            if text not in str(params):
                return real(cursor, statement, params, *more)
            self.refused += 1
            cursor.db.connection.close()
            raise OperationalError(2013, "Lost connection") from LostError(2013)

        monkeypatch.setattr(CursorWrapper, "_execute", execute)


class LostError(Exception):
    """What a driver raises."""

    sqlstate = "08006"


@pytest.mark.skipif("connection.vendor == 'sqlite'", reason="no connection to lose")
def test_an_outcome_over_which_the_connection_breaks_keeps_no_other(rig, monkeypatch):
    results = [Succeeded("1"), Succeeded('"poison"'), Succeeded("2")]
    job_ids = hand_over(rig, *(RunResult(outcome=one) for one in results))
    with monkeypatch.context() as patch:
        refusing = Refusing(patch, "poison")
        with pytest.raises(AssertionError, match="could not be written in 3 tries"):
            rig.finish_whatever_happens(tries=3)
        assert written(rig, job_ids) == ["succeeded", "running", "succeeded"]
    assert refusing.refused >= 3
    rig.finish_whatever_happens()

    assert written(rig, job_ids) == ["succeeded"] * 3
    assert [told.outcome for _claim, told in rig.written].count(results[1]) == 1


def test_arguments_are_refused_before_they_are_sent(rig, limit, vendor, monkeypatch):
    if vendor != "mysql":
        pytest.skip("elsewhere the caller hears it from the database")
    claim = rig.claim(rig.enqueue(lambda context: None))
    task = rig.facts_of(claim).task
    backend = task.get_backend()
    monkeypatch.setattr(type(backend.config), "max_payload", 100 * limit, raising=False)
    before = connection.connection
    with pytest.raises(PayloadTooLarge, match="max_allowed_packet"):
        task.enqueue('"' * limit)

    assert connection.connection is before  # nothing was sent that broke it
    assert sql("SELECT 1")
