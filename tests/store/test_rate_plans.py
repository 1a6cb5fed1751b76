"""100,000 jobs that wait for their rate cost nobody anything."""

from datetime import timedelta

import pytest
from django.db import transaction

from aftercommit.gcra import Rate
from aftercommit.models import Blocked, Job
from aftercommit.values import UNLIMITED
from tests import tiers
from tests.store import test_plans
from tests.store.filling import filled
from tests.store.given import claim_all, new_job, ready_job
from tests.store.test_plans import at_most, reads, reads_all

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])
plans = test_plans.plans

PARKED = tiers.size(change=10_000, full=100_000)
KEYS = 50
LINES = "aftercommit_job_line"
RATE = Rate(timedelta(hours=1), 3)


def key(number):
    """Return one of the keys."""
    return f"r{number:063d}"


@pytest.fixture(scope="module")
def parked(django_db_setup, django_db_blocker):
    """Fill the table with jobs that wait for their rates, more urgent than all others."""
    jobs = [
        Job(
            task_path="tests.app.tasks.add",
            payload='{"args":[],"kwargs":{}}',
            priority=5,
            run_after="2020-01-01T00:00:00Z",
            enqueued_at="2020-01-01T00:00:00Z",
            limit_key=key(number % KEYS),
            rate_key=key(number % KEYS),
            line=key(number % KEYS),
            blocked=Blocked.RATE,
            claimable=False,
            waits_for=1,
        )
        for number in range(PARKED)
    ]
    with filled(django_db_blocker, jobs):
        yield


@pytest.fixture(autouse=True)
def empty_tables(parked, transactional_db):
    """Undo what a test has written, instead of emptying the table."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def claim(store, **given):
    """Claim what is due, by the rate."""
    given = {"groups": [("default", 5), ("default", 0)], **given}
    return claim_all(store, limit_of=lambda _path: UNLIMITED, rate_of=lambda _path: RATE, **given)


def test_a_ready_job_behind_all_of_them_is_claimed_as_if_they_were_not_there(store):
    plain = ready_job(store)
    with reads() as found:
        claims = claim(store, limit=10)

    assert [one.job_id for one in claims] == [plain]
    assert found.count <= at_most(pages=200, rows=60, steps=8_000)


def test_a_rated_job_that_is_new_reads_the_first_of_its_line_only(store):
    store.insert([new_job(limit_key=key(1), rate_key=key(1))])
    with reads() as found:
        claim(store, limit=10)

    assert found.count <= at_most(pages=2_000, rows=600, steps=60_000)


@pytest.mark.parametrize("keys", [1, KEYS])
def test_the_next_jobs_are_found_by_the_index_of_lines(store, plans, keys):
    passed, _waits = store.let_start({key(number): RATE for number in range(keys)})

    assert passed == keys * RATE.burst
    assert any(LINES in text for text in plans.texts)
    plans.must_not_read_all()


def test_a_look_at_all_lines_jumps_from_one_to_the_next(store, plans):
    with reads() as found:
        lines = store.rate_lines(most=2 * KEYS)

    assert [one for one, _path in lines] == [key(number) for number in range(KEYS)]
    assert found.count <= at_most(pages=1_500, rows=10 * KEYS, steps=40_000)
    assert not any(reads_all(text) for text in plans.texts)
