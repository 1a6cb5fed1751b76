"""100,000 parked jobs cost nobody anything: what a claim reads does not depend on them."""

import pytest
from django.db import connection, transaction

from aftercommit.models import Blocked, Job, State
from aftercommit.values import Limit, Succeeded
from tests import tiers
from tests.store import test_plans
from tests.store.filling import filled
from tests.store.given import claim_all, new_job, ready_jobs
from tests.store.test_plans import Plans, at_most, reads, reads_all

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])
plans = test_plans.plans

PARKED = tiers.size(change=10_000, full=100_000)
KEYS, ENDED = 50, 2_000
LIMITED = "aftercommit_job_limited"
TWO = Limit(2)


def key(number):
    """Return one of the keys."""
    return f"{number:064d}"


@pytest.fixture(scope="module")
def parked(django_db_setup, django_db_blocker):
    """Fill the table with parked jobs of few keys, and jobs of the same keys that have ended."""
    jobs = [
        Job(
            task_path="tests.app.tasks.add",
            payload='{"args":[],"kwargs":{}}',
            run_after="2020-01-01T00:00:00Z",
            enqueued_at="2020-01-01T00:00:00Z",
            limit_key=key(number % KEYS),
            **(
                {"blocked": Blocked.LIMIT, "claimable": False, "waits_for": 1}
                if number < PARKED
                else {
                    "state": State.SUCCEEDED,
                    "claimable": False,
                    "finished_at": "2020-01-01T00:00:00Z",
                }
            ),
        )
        for number in range(PARKED + ENDED)
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
    """Claim what is due, two of each key at once."""
    return claim_all(store, limit_of=lambda _path: TWO, groups=[("default", 0)], **given)


def test_a_claim_reads_no_parked_job(store):
    ready_jobs(store, 10)
    with reads() as found:
        claims = claim(store, limit=10)

    assert len(claims) == 10
    assert found.count <= at_most(pages=700, rows=200, steps=16_000)


def test_a_claim_under_limits_reads_the_first_parked_jobs_of_its_keys_only(store):
    store.insert([new_job(limit_key=key(number)) for number in range(5)])
    with reads() as found:
        claims = claim(store, limit=10)

    assert len(claims) == 5 * TWO.slots  # let through, and claimed by the next look
    assert found.count <= at_most(pages=3_000, rows=1_500, steps=80_000)


@pytest.mark.parametrize("keys", [1, KEYS])
def test_the_next_jobs_are_found_by_the_index_of_lines(store, plans, keys):
    passed, _locked = store.let_pass({key(number): TWO for number in range(keys)})

    assert passed == keys * TWO.slots
    texts = [text for text in plans.texts if LIMITED in text]
    assert texts
    plans.must_not_read_all()


def test_to_let_one_pass_reads_little(store):
    with reads() as found:
        store.let_pass({key(7): TWO})

    assert found.count <= at_most(pages=500, rows=150, steps=8_000)


def test_a_look_at_all_keys_jumps_from_one_to_the_next(store, plans):
    with reads() as found:
        keys = store.parked_keys(most=2 * KEYS)

    assert [one for one, _path in keys] == [key(number) for number in range(KEYS)]
    assert found.count <= at_most(pages=1_500, rows=10 * KEYS, steps=40_000)
    assert not any(reads_all(text) for text in plans.texts)


def test_the_end_of_a_run_under_a_limit_finds_its_row_by_the_id(store):
    store.insert([new_job(limit_key="k")])
    (running,) = claim(store)
    explained = Plans()
    with connection.execute_wrapper(explained):
        store.finish(running, Succeeded())

    explained.must_not_read_all()


def test_a_plain_claim_is_as_many_statements_as_before(store):
    ready_jobs(store, 3)
    explained = Plans()
    with connection.execute_wrapper(explained):
        claim(store, limit=3)

    limited = [text for text in explained.texts if LIMITED in text]
    assert limited == []
