"""The tables themselves refuse rows that no transition can make."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import CheckConstraint

from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.store.base import unique_lock
from aftercommit.values import Succeeded
from tests.store.given import claim_one, ready_job

NOW = datetime(2030, 1, 1, tzinfo=UTC)
A_WORKER = new_job_id()
RUNNING = {"state": "running", "worker_id": A_WORKER}
REFUSED = {
    "aftercommit_job_consistent": [
        # A running job has a worker, and only it has a lease of version 0.1.
        {"state": "running"},
        {"state": "running", "lease_until": NOW},
        {"lease_until": NOW},
        {"state": "succeeded", "finished_at": NOW, "lease_until": NOW},
        {"state": "failed", "finished_at": NOW, "lease_until": NOW},
        # A finished job has a time, the others have none, and there are no other states.
        {"state": "succeeded"},
        {"state": "failed"},
        {"state": "cancelled"},
        {"state": "scheduled"},
        {"state": "blocked", "finished_at": NOW},
        {"state": ""},
        {"finished_at": NOW},
        {**RUNNING, "finished_at": NOW},
        # Only ready and running jobs hold keys.
        {"state": "succeeded", "finished_at": NOW, "unique_lock": "x"},
        {"state": "failed", "finished_at": NOW, "unique_lock": "x"},
        {"state": "cancelled", "finished_at": NOW, "unique_lock": "x"},
        # Only running jobs hold slots.
        {"slot": 1, "limit_key": "key"},
        {"state": "succeeded", "finished_at": NOW, "slot": 1, "limit_key": "key"},
    ],
}
CASES = [(name, row) for name, rows in REFUSED.items() for row in rows]
TAKEN = [
    {**RUNNING},
    {**RUNNING, "lease_until": NOW},
    {**RUNNING, "slot": 1, "limit_key": "key", "unique_lock": "x"},
    {"unique_lock": "x"},
    {"state": "succeeded", "finished_at": NOW, "worker_id": A_WORKER},
    {"state": "failed", "finished_at": NOW},
    {"state": "cancelled", "finished_at": NOW},
]


def changed(job_id, **row):
    with transaction.atomic():
        Job.objects.filter(id=job_id).update(**row)


@pytest.mark.parametrize(("constraint", "row"), CASES, ids=str)
def test_a_row_that_no_transition_makes_is_refused(store, constraint, row):
    job_id = ready_job(store)

    # MariaDB reports a broken CHECK as an OperationalError.
    with pytest.raises((IntegrityError, OperationalError), match=constraint):
        changed(job_id, **row)

    assert claim_one(store).job_id == job_id


def test_each_check_has_its_cases():
    checks = {one.name for one in Job._meta.constraints if isinstance(one, CheckConstraint)}

    assert checks == set(REFUSED)


@pytest.mark.parametrize("row", TAKEN, ids=str)
def test_a_row_that_some_transition_makes_is_taken(store, row):
    job_id = ready_job(store)

    changed(job_id, **row)

    assert Job.objects.filter(id=job_id, **row).exists()


def test_two_live_jobs_cannot_hold_one_key(store):
    ready_job(store, unique_key="key")
    second = ready_job(store)

    with pytest.raises(IntegrityError):
        changed(second, unique_lock=unique_lock("key"))


def test_many_jobs_may_hold_no_key(store):
    first, second = ready_job(store), ready_job(store)

    assert first != second
    assert Job.objects.filter(unique_lock=None).count() == 2


def test_two_running_jobs_cannot_hold_one_slot_of_a_limit(store):
    first, second, third = (ready_job(store) for _ in range(3))
    changed(first, **RUNNING, limit_key="key", slot=1)
    changed(third, **RUNNING, limit_key="another", slot=1)

    with pytest.raises(IntegrityError):
        changed(second, **RUNNING, limit_key="key", slot=1)

    changed(second, **RUNNING, limit_key="key", slot=2)


def test_all_rules_and_indexes_are_in_the_database():
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, Job._meta.db_table)

    declared = {one.name for one in (*Job._meta.constraints, *Job._meta.indexes)}
    assert declared <= set(found)
    assert all(found[one.name]["index"] for one in Job._meta.indexes)
    assert found["aftercommit_job_unique"]["unique"]
    assert found["aftercommit_job_slot"]["unique"]


def test_a_key_of_a_job_that_ended_is_free(store):
    first = ready_job(store, unique_key="key")
    store.finish(claim_one(store), Succeeded())

    assert ready_job(store, unique_key="key") != first
