"""Rows that hold what Python cannot read: they alone suffer, whoever reads them."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from aftercommit._compat import task_backends
from aftercommit.errors import Unreadable
from aftercommit.models import Job, Lease, WorkerPresence
from aftercommit.store.columns import moment_from
from aftercommit.values import FIRST_MOMENT, LAST_MOMENT, Failed, Retry, Succeeded
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    ready_job,
    ready_jobs,
)

pytestmark = pytest.mark.django_db(databases=["default", "other"])

COMMITS = pytest.mark.django_db(transaction=True, databases=["default", "other"])

MOMENTS = {
    "postgresql": [
        "infinity",
        "-infinity",
        "0044-03-15 12:00:00+00 BC",
        "0001-01-01 00:00:00+00",
        "9999-12-31 23:59:59.999999+00",
        "294276-12-31 23:59:59+00",
    ],
    "mysql": [
        "0000-00-00 00:00:00",
        "2026-00-15 00:00:00",
        "2026-02-00 10:00:00",
        "2026-02-31 10:00:00",
        "9999-12-31 23:59:59.999999",
    ],
    "sqlite": [
        "tomorrow",
        "",
        "2026-13-01 00:00:00",
        "2026-02-30 00:00:00",
        "2026-01-01 24:00:00",
        "2026-01-01 00:00:00\0more",
        "9999-12-31 23:59:59.999999",
        "0001-01-01 00:00:00",
        20260101,
        2.5,
        b"\xff\xfe",
        b"2026-01-01 00:00:00",
    ],
}[connection.vendor]
COLUMNS = ["run_after", "enqueued_at", "started_at", "claimed_at", "finished_at", "lease_until"]
TEXTS = ["", "null", "[]", "{", "no JSON", '{"args":[]}', '{"args":1,"kwargs":{}}', "[" * 5000]
TEXTS += [
    "9" * 5000,
    '{"args":[],"kwargs":[]}',
    '{"args":[],"kwargs":{}} and more',
    '{"run_after":"never"}',
    '["x"}',
    '"\\ud800"',
]
LARGEST = {"token": 2**63 - 1} | dict.fromkeys(["attempts", "crashes", "conflicts"], 2**31 - 1)


@contextmanager
def any_value():
    """Return a cursor that writes what no program of ours would."""
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET @before = @@sql_mode, sql_mode = 'ALLOW_INVALID_DATES'")
        yield cursor
        if connection.vendor == "mysql":
            cursor.execute("SET sql_mode = @before")


def write(job_id, **values):
    key = str(job_id) if connection.features.has_native_uuid_field else job_id.hex
    assigned = ", ".join(f"{name} = %s" for name in values)
    with any_value() as cursor:
        cursor.execute(
            f"UPDATE aftercommit_job SET {assigned} WHERE id = %s", [*values.values(), key]
        )
        assert cursor.rowcount == 1


def run_after_of(job_id):
    return Job.objects.values_list("run_after", flat=True).get(id=job_id)


@pytest.mark.parametrize("value", MOMENTS, ids=repr)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_moment_that_python_does_not_have_is_read_as_the_first_or_the_last(
    column, value, store
):
    job_id, other_id = ready_jobs(store, 2)
    if column == "finished_at":
        store.cancel([job_id])
    if column == "lease_until":
        claim_all(store, only=[job_id])
    write(job_id, **{column: value})

    found = getattr(store.job(job_id), column)

    assert found in {FIRST_MOMENT, LAST_MOMENT}
    assert timezone.localtime(found, timezone.get_fixed_timezone(timedelta(hours=23)))
    assert {one.id for one in store.jobs([job_id, other_id])} == {job_id, other_id}
    assert getattr(store.job(other_id), column) is None or column.endswith(("after", "ed_at"))


def test_moments_that_python_has_are_read_as_they_are(store):
    job_id = ready_job(store)
    for moment in (
        FIRST_MOMENT,
        LAST_MOMENT - timedelta(microseconds=1),
        datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
        datetime(1000, 1, 1, tzinfo=UTC),
    ):
        Job.objects.filter(id=job_id).update(run_after=moment)
        assert run_after_of(job_id) == moment
    assert store.job(job_id).started_at is None


@COMMITS
@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_the_others_of_its_batch_are_claimed_and_it_as_well_if_it_is_due(value, store):
    odd, *others = ready_jobs(store, 3)
    write(odd, run_after=value, enqueued_at=value)
    write(others[0], enqueued_at=value)

    claims = {claim.job_id: claim for claim in claim_all(store)}

    assert claims.keys() >= set(others)
    assert all(FIRST_MOMENT <= claim.enqueued_at <= LAST_MOMENT for claim in claims.values())
    assert len(store.finish_many([(claim, Succeeded()) for claim in claims.values()])) == len(
        claims
    )


@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_a_rescue_takes_it_and_the_others(value, store):
    taken = ready_jobs(store, 3)
    claim_all(store, lease=ALREADY_OVER)
    write(taken[1], run_after=value, claimed_at=value, started_at=value)

    rescued = store.rescue(max_crashes=MOST_CRASHES)

    assert {one.job_id for one in rescued} == set(taken)


@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_what_is_asked_of_the_whole_table_is_answered(value, store):
    odd, other, old = ready_jobs(store, 3)
    store.cancel([old])
    write(old, finished_at=value)
    write(odd, run_after=value)

    assert other in store.due(limit=10)
    assert isinstance(store.oldest_due_age(), timedelta | None)
    assert sum(one.ready for one in store.waiting(most=10)) == 2
    assert store.due_heads()
    assert isinstance(store.recent_ends(within=timedelta(minutes=1)), tuple)
    assert store.counts()["ready"] == 2
    assert store.prune(older_than=timedelta(0)) <= 1
    assert store.cancel([odd, other]).cancelled == {odd, other}


@pytest.mark.parametrize("value", MOMENTS, ids=repr)
def test_leases_and_workers_with_such_moments_are_read(value, store):
    ready_jobs(store, 2)
    claim = claim_all(store, limit=1)[0]
    store.workers.announce(claim.worker_id, locked=True)
    with any_value() as cursor:
        cursor.execute("UPDATE aftercommit_lease SET lease_until = %s", [value])
        cursor.execute("UPDATE aftercommit_workerpresence SET seen_at = %s", [value])

    assert Lease.objects.get().lease_until in {FIRST_MOMENT, LAST_MOMENT}
    assert WorkerPresence.objects.get().seen_at in {FIRST_MOMENT, LAST_MOMENT}
    rescued = store.rescue(max_crashes=MOST_CRASHES, dead_workers=[claim.worker_id])
    assert [one.job_id for one in rescued] == [claim.job_id]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"no id":1}', "[" * 5000])
def test_the_jobs_of_a_lease_that_cannot_be_read_are_found_by_their_worker(text, store):
    ready_jobs(store, 3)
    worker_id = uuid4()
    (odd,) = claim_all(store, limit=1, lease=ALREADY_OVER, worker_id=worker_id)
    claim_all(store, limit=1, worker_id=worker_id)
    (other,) = claim_all(store, limit=1, lease=ALREADY_OVER)
    Lease.objects.filter(id=odd.lease_id).update(jobs=text)

    rescued = store.rescue(max_crashes=MOST_CRASHES)

    assert {one.job_id for one in rescued} == {odd.job_id, other.job_id}
    assert Lease.objects.count() == 1


@pytest.mark.parametrize("column", LARGEST)
def test_a_full_counter_does_not_stop_the_others(column, store):
    odd, *others = ready_jobs(store, 3)
    write(odd, **{column: LARGEST[column]})

    claims = claim_all(store)

    assert {claim.job_id for claim in claims} == {odd, *others}
    assert len(store.finish_many([(one, Retry(ERROR)) for one in claims])) == 3
    claim_all(store, lease=ALREADY_OVER)
    assert len(store.rescue(max_crashes=MOST_CRASHES)) == 3


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_errors_that_are_not_ours_are_kept_as_text(text, store):
    odd, other = ready_jobs(store, 2)
    write(odd, errors=text)

    claims = claim_all(store)
    assert {one.job_id: one.history() for one in claims}[other] == ([], [])
    assert len(store.finish_many([(one, Failed(ERROR)) for one in claims])) == 2

    *before, last = store.job(odd).error_list
    assert last["exception_class_path"] == "builtins.ValueError"
    assert all(one["exception_class_path"] == "aftercommit.errors.Unreadable" for one in before)


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_a_crash_is_added_to_errors_that_are_not_ours(text, store):
    odd, other = ready_jobs(store, 2)
    claim_all(store, lease=ALREADY_OVER)
    write(odd, errors=text)

    assert {one.job_id for one in store.rescue(max_crashes=MOST_CRASHES)} == {odd, other}


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text[:20])
def test_arguments_that_cannot_be_read_are_told_when_they_are_asked_for(text, store):
    job_id = ready_job(store)
    write(job_id, payload=text, result=text[:1000])

    result = task_backends["default"].get_result(str(job_id))

    assert result.state == "ready"
    with pytest.raises(Unreadable, match="arguments"):
        _ = result.args
    with pytest.raises(Unreadable):
        _ = store.job(job_id).kwargs


def test_a_return_value_that_cannot_be_read_is_told_when_it_is_asked_for(store):
    job_id = ready_job(store)
    (claim,) = claim_all(store)
    store.finish(claim, Succeeded("1"))
    result = task_backends["default"].get_result(str(job_id))
    write(job_id, result="{")

    result.refresh()

    assert result.is_finished
    with pytest.raises(Unreadable, match="return value"):
        _ = result.return_value
    write(job_id, result="2")
    result.refresh()
    assert result.return_value == 2


META = ["null", "[]", "1", '"text"', '{"name": {}}', '{"name": null}', '{"n": %s}' % ("9" * 5000)]


@pytest.mark.parametrize("meta", META, ids=lambda text: text[:20])
@pytest.mark.parametrize("path", ["tests.app.tasks.add", "aftercommit.relay.publish"])
def test_the_admin_shows_a_job_whatever_it_holds(path, meta, store, client):
    client.force_login(User.objects.create_superuser("super"))
    odd, other = ready_job(store, task_path=path), ready_job(store)
    for text in ("[]", "{", '{"args":[],"kwargs":{"content":7}}'):
        for moment in (MOMENTS[0], MOMENTS[-1]):
            write(odd, payload=text, meta=meta, errors=text, run_after=moment, enqueued_at=moment)

            listed = client.get(reverse("admin:aftercommit_job_changelist"))
            page = client.get(reverse("admin:aftercommit_job_change", args=[odd]))

            assert str(odd) in listed.content.decode()
            assert str(other) in listed.content.decode()
            assert page.status_code == 200


SQLITE_ONLY = pytest.mark.skipif(connection.vendor != "sqlite", reason="columns of a type")
ODD = [None, b"\xff", b"text", 7, 2.5, "text", "ä\ud7ff"]


@COMMITS
@SQLITE_ONLY
@pytest.mark.parametrize("value", ODD, ids=repr)
@pytest.mark.parametrize(
    "column",
    [
        "task_path",
        "payload",
        "errors",
        "backend",
        "queue",
        "priority",
        "attempts",
        "token",
        "conflicts",
        "crashes",
        "max_attempts",
        "worker_id",
    ],
)
def test_values_of_other_types_do_not_stop_the_others(column, value, store, client):
    odd, *others = ready_jobs(store, 3)
    if value is None and column != "worker_id":
        pytest.skip("the table does not take NULL there")
    write(odd, **{column: value})

    claims = claim_all(store, limit=2) + claim_all(store, limit=2)

    assert {claim.job_id for claim in claims} >= set(others)
    for claim in claims:
        assert isinstance(claim.payload, str)
        assert isinstance(claim.attempt + claim.conflicts + claim.max_attempts, int)
    assert len(store.finish_many([(one, Failed(ERROR)) for one in claims])) == len(claims)
    client.force_login(User.objects.create_superuser("super"))
    assert client.get(reverse("admin:aftercommit_job_changelist")).status_code == 200
    assert client.get(reverse("admin:aftercommit_job_change", args=[odd])).status_code == 200


@SQLITE_ONLY
@COMMITS
@pytest.mark.parametrize("column", ["task_path", "payload", "errors"])
def test_a_text_that_is_not_utf_8_does_not_stop_the_others(column, store):
    odd, other = ready_jobs(store, 2)
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE aftercommit_job SET {column} = CAST(x'6162ff' AS TEXT) WHERE id = %s",
            [odd.hex],
        )

    assert getattr(store.job(odd), column) == "ab\ufffd"
    assert len(store.jobs([odd, other])) == 2
    claims = claim_all(store, lease=ALREADY_OVER)

    assert {claim.job_id for claim in claims} == {odd, other}
    assert len(store.rescue(max_crashes=MOST_CRASHES)) == 2
    assert connection.connection.text_factory is str


@SQLITE_ONLY
def test_a_job_without_an_id_is_left_out(store, client):
    _odd, other = ready_jobs(store, 2)
    write(_odd, id="7")

    assert [claim.job_id for claim in claim_all(store)] == [other]

    client.force_login(User.objects.create_superuser("super"))
    assert client.get(reverse("admin:aftercommit_job_changelist")).status_code == 200
    assert {one.id for one in Job.objects.all()} == {None, other}


@pytest.mark.parametrize("value", [None, 7, b"", "", "x", datetime.max, datetime.min])
def test_whatever_a_driver_returns_for_a_moment_is_one(value):
    assert FIRST_MOMENT <= moment_from(value) <= LAST_MOMENT


def test_spans_without_end_mean_a_hundred_years(store):
    job_id = ready_job(store)
    store.cancel([job_id])

    assert store.prune(older_than=timedelta.max) == 0
    assert store.prune_received(older_than=timedelta.max) == 0
    store.workers.forget_silent(timedelta.max)
    ready_job(store)
    (claim,) = claim_all(store)
    assert store.finish(claim, Retry(ERROR, timedelta.max)).state == "ready"
    assert run_after_of(claim.job_id) > timezone.now() + timedelta(days=99 * 365)
