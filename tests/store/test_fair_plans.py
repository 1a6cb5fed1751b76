"""100,000 jobs in lines cost nobody anything: a claim reads about as many rows as it takes."""

from uuid import uuid4

import pytest
from django.db import connection, transaction

from aftercommit.models import Blocked, Job
from aftercommit.options.fair import fair_key
from aftercommit.store.fair.reading import Part
from aftercommit.values import ClaimQuery
from tests import tiers
from tests.store.filling import filled
from tests.store.given import LEASE, claim_all, ready_jobs
from tests.store.test_plans import Plans, at_most, reads

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])

WAITING = tiers.size(change=10_000, full=100_000)
TENANTS = 1_000  # the large one, and others with a job each
FAIR = Part("default", "default")


def key(tenant):
    """Return the key of a tenant."""
    return fair_key("default", "default", str(tenant), gated=False)


@pytest.fixture(scope="module")
def waiting(django_db_setup, django_db_blocker):
    """Fill the lines: one tenant has almost all, and the others have one job each."""
    jobs = [
        Job(
            task_path="tests.app.tasks.add",
            payload='{"args":[],"kwargs":{}}',
            run_after="2020-01-01T00:00:00Z",
            enqueued_at="2020-01-01T00:00:00Z",
            priority=number % 3,
            limit_key=key(max(number - WAITING, 0)),
            fair_key=key(max(number - WAITING, 0)),
            line=key(max(number - WAITING, 0)),
            blocked=Blocked.FAIR,
            claimable=False,
            waits_for=1,
        )
        for number in range(WAITING + TENANTS)
    ]
    with filled(django_db_blocker, jobs):
        yield


@pytest.fixture(autouse=True)
def empty_tables(waiting, transactional_db):
    """Undo what a test has written, instead of emptying the table."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def claim(store, limit, after=""):
    """Claim from the lines."""
    query = ClaimQuery(queue="default", limit=limit, worker_id=uuid4(), lease=LEASE)
    return store.claim_in_turn(query, FAIR, after=after)


def test_a_claim_reads_the_first_jobs_of_its_keys_only(store):
    with reads() as found:
        claims, _after = claim(store, 50)

    assert len(claims) == 50
    assert found.count <= at_most(pages=3_000, rows=1_000, steps=60_000)


def test_the_large_line_is_read_from_its_front(store):
    before = max(one for one in [key(number) for number in range(TENANTS)] if one < key(0))
    with reads() as found:
        claims, after = claim(store, 1, after=before)

    assert len(claims) == 1
    assert after == key(0)
    assert found.count <= at_most(pages=200, rows=60, steps=5_000)


def test_a_thousand_tenants_have_their_turn_in_a_thousand_jobs(store):
    after, seen = "", set()
    for _time in range(11):
        claims, after = claim(store, 100, after=after)
        seen |= {one.job_id for one in claims}
    lines = Job.objects.filter(id__in=seen).values_list("fair_key", flat=True)
    assert set(lines) == {key(number) for number in range(TENANTS)}


def test_the_look_for_lines_jumps(store):
    with reads() as found:
        assert store.fair_parts() == [FAIR]

    assert found.count <= at_most(pages=60, rows=10, steps=2_000)


def test_a_plain_claim_reads_none_of_them(store):
    ready_jobs(store, 10)
    with reads() as found:
        assert len(claim_all(store, limit=10, fair=True, groups=[("default", 0)])) == 10

    assert found.count <= at_most(pages=700, rows=200, steps=16_000)


def test_the_numbers_are_read_from_few_rows(store):
    plans = Plans()
    with reads() as found:
        store.waiting(most=100)

    assert found.count <= at_most(pages=20_000, rows=6_000, steps=400_000)
    with connection.execute_wrapper(plans):
        store.oldest_due_age()
    plans.must_not_read_all()
