"""A success whose row goes: the DELETE is fenced as the UPDATE of another success is."""

from contextlib import nullcontext

import pytest
from django.db import connection, models, transaction

from aftercommit.models import Job
from aftercommit.values import Failed, Succeeded, SucceededAndGone
from tests.store.callers import Held, answer
from tests.store.given import ERROR, claim_all, claim_one, job, lost_claim, ready_jobs, state

GONE = SucceededAndGone("42")


def claims_of(store, count):
    ready_jobs(store, count)
    return claim_all(store)


def test_the_row_goes_with_the_success(store):
    (claim,) = claims_of(store, 1)

    assert store.finish(claim, GONE) == (claim.job_id, "succeeded")

    assert state(store, claim.job_id) == "gone"
    assert store.finish(claim, GONE) is None


@pytest.mark.parametrize("gone", [1, 2, 5])
def test_a_batch_may_hold_outcomes_of_every_kind(gone, store):
    claims = claims_of(store, 9)
    outcomes = [GONE] * gone + [Succeeded("1")] * (8 - gone) + [Failed(ERROR)]

    ended = store.finish_many(list(zip(claims, outcomes, strict=True)))

    assert len(ended) == 9
    found = [state(store, claim.job_id) for claim in claims]
    assert found == ["gone"] * gone + ["succeeded"] * (8 - gone) + ["failed"]
    assert dict(ended) == {
        claim.job_id: "failed" if outcome == Failed(ERROR) else "succeeded"
        for claim, outcome in zip(claims, outcomes, strict=True)
    }


@pytest.mark.parametrize("together", [False, True])
def test_a_worker_that_has_lost_its_claim_deletes_nothing(together, store):
    ready_jobs(store, 1)
    late, present = lost_claim(store)
    others = claims_of(store, 2 * together)

    ended = store.finish_many([(one, GONE) for one in (late, *others)])

    assert len(ended) == len(others)
    assert state(store, late.job_id) == "running"
    assert store.finish(late, GONE) is None
    assert store.finish(present, GONE) == (present.job_id, "succeeded")


def test_a_job_that_is_not_running_any_more_is_not_deleted(store):
    claim, other = claims_of(store, 2)
    store.finish_many([(claim, Failed(ERROR)), (other, Succeeded())])

    assert store.finish(claim, GONE) is None
    assert store.finish_many([(claim, GONE), (other, GONE)]) == []
    assert [state(store, one.job_id) for one in (claim, other)] == ["failed", "succeeded"]


def test_in_the_transaction_of_the_task_it_is_part_of_it(store):
    (claim,) = claims_of(store, 1)

    with transaction.atomic():
        assert store.finish(claim, GONE) == (claim.job_id, "succeeded")
        transaction.set_rollback(True)

    assert state(store, claim.job_id) == "running"
    with transaction.atomic():
        store.finish(claim, GONE)
    assert state(store, claim.job_id) == "gone"


def test_it_waits_for_whoever_has_locked_the_row_and_sees_what_became_of_it(
    store, other, new_caller
):
    (claim,) = claims_of(store, 1)
    held = Held(other, lambda: store.finish(claim, Failed(ERROR)))
    late = new_caller()

    begun = late.start(store.finish, claim, GONE)
    assert late.must_wait(begun)
    held.commit()

    assert answer(begun) is None
    assert state(store, claim.job_id) == "failed"


def test_the_unique_key_is_free_again(store):
    ready_jobs(store, 1, unique_key="once")
    store.finish(claim_one(store), GONE)

    (again,) = ready_jobs(store, 1, unique_key="once")

    assert state(store, again) == "ready"


@pytest.mark.parametrize(
    "receipts", [models.PROTECT, models.RESTRICT, models.DO_NOTHING], indirect=True, ids=str
)
def test_a_row_that_is_protected_stays_as_succeeded(receipts, store):
    claims = claims_of(store, 3)
    receipts.create(job=job(store, claims[1].job_id))

    ended = store.finish_many([(one, GONE) for one in claims])

    assert {one.state for one in ended} == {"succeeded"}
    assert len(ended) == 3
    assert state(store, claims[1].job_id) == "succeeded"
    if "DO_NOTHING" not in str(Job._meta.related_objects[0].on_delete):
        assert Job.objects.count() == 1


@pytest.fixture(params=["checked at once", "checked at commit"])
def unknown_receipts(request, transactional_db):
    """Make a table that refers to jobs, and that no model of this process knows."""
    late = request.param == "checked at commit"
    if late and connection.vendor == "mysql":
        pytest.skip("InnoDB checks at once")
    when = "DEFERRABLE INITIALLY DEFERRED" if late else ""
    kind = Job._meta.pk.db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE unknown_receipt (job_id {kind} NOT NULL,"
            f" FOREIGN KEY (job_id) REFERENCES aftercommit_job (id) {when})"
        )
    yield refer_to
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE unknown_receipt")


def refer_to(job_id):
    given = Job._meta.pk.get_db_prep_value(job_id, connection)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO unknown_receipt VALUES (%s)", [given])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_foreign_key_that_this_process_does_not_know_keeps_the_row(
    count, in_transaction, unknown_receipts, store
):
    claims = claims_of(store, count)
    unknown_receipts(claims[0].job_id)

    with transaction.atomic() if in_transaction else nullcontext():
        ended = [store.finish(claims[0], GONE)] if count == 1 else None
        ended = ended or store.finish_many([(one, GONE) for one in claims])

    assert sorted(ended) == sorted((one.job_id, "succeeded") for one in claims)
    found = [state(store, claim.job_id) for claim in claims]
    assert found == ["succeeded", *["gone"] * (count - 1)]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_whatever_else_stops_the_deletion_keeps_the_row(in_transaction, store):
    (claim,) = claims_of(store, 1)

    def refuse(**_given):
        raise ValueError("a receiver of the project")

    models.signals.pre_delete.connect(refuse, sender=Job)
    try:
        with transaction.atomic() if in_transaction else nullcontext():
            assert store.finish(claim, GONE) == (claim.job_id, "succeeded")
    finally:
        models.signals.pre_delete.disconnect(refuse, sender=Job)

    assert state(store, claim.job_id) == "succeeded"


@pytest.mark.parametrize("receipts", [models.CASCADE], indirect=True, ids=["cascade"])
def test_rows_that_follow_go_with_it(receipts, store):
    (claim,) = claims_of(store, 1)
    receipts.create(job=job(store, claim.job_id))

    store.finish(claim, GONE)

    assert (Job.objects.count(), receipts.count()) == (0, 0)
