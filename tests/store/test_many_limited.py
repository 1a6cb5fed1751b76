"""Many jobs under limits: what is read grows with them, not with their square."""

from datetime import timedelta

import pytest
from django.db import connection

from aftercommit.models import Blocked, Job
from aftercommit.values import Limit, Retry, Succeeded
from tests.store.given import ERROR, claim_all, new_job
from tests.store.test_plans import STATISTICS, Plans, at_most, reads, run

pytestmark = pytest.mark.django_db(transaction=True)

JOBS = 2_000
HALF = Limit(JOBS // 2)
ONE = Limit(1)
AT_ONCE = timedelta(0)


def claim(store, allowed, **given):
    """Claim what is due of tasks with this limit."""
    given = {"limit": JOBS, "groups": [("default", 0)], **given}
    return claim_all(store, limit_of=lambda _path: allowed, **given)


@pytest.fixture
def one_key(store):
    """Fill the table with jobs of one key, and let the planner know them as they are now."""
    store.insert([new_job(limit_key="k") for _number in range(JOBS)])
    run(STATISTICS[connection.vendor])


@pytest.fixture
def many_keys(store):
    """Fill the table with two jobs of each key."""
    keys = range(JOBS // 2)
    store.insert([new_job(limit_key=f"{key:064d}") for _turn in range(2) for key in keys])
    run(STATISTICS[connection.vendor])


def of_each_job(*, pages, rows, steps):
    """Return the limit for all jobs."""
    return JOBS * at_most(pages=pages, rows=rows, steps=steps)


def test_parking_reads_each_job_a_few_times(store, one_key):
    with reads() as found:
        claim(store, ONE)

    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == JOBS - 1
    assert found.count <= of_each_job(pages=30, rows=12, steps=300)


def test_letting_jobs_through_reads_each_of_them_a_few_times(store, one_key):
    (running,) = claim(store, ONE)
    store.finish(running, Succeeded())
    with reads() as found:
        passed, _locked = store.let_pass({"k": HALF})

    assert passed == HALF.slots
    assert found.count <= of_each_job(pages=30, rows=12, steps=300)


def test_many_keys_are_claimed_without_a_scan(store, many_keys):
    explained = Plans()
    with connection.execute_wrapper(explained):
        claims = claim(store, ONE, limit=50, limited_first=True)

    assert len({one.limit_key for one in claims}) == len(claims) == 50
    explained.must_not_read_all()


def test_the_ends_of_many_keys_let_one_of_each_pass_without_a_scan(store, many_keys):
    claims = []
    while more := claim(store, ONE, limited_first=True):
        claims += more
    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == len(claims) == JOBS // 2
    store.finish_many([(one, Succeeded()) for one in claims])
    explained = Plans()
    ended = dict.fromkeys([one.limit_key for one in claims[:50]], ONE)
    with connection.execute_wrapper(explained):
        passed, _locked = store.let_pass(ended)

    assert passed == 50
    explained.must_not_read_all()


@pytest.mark.parametrize("outcome", [Succeeded(), Retry(ERROR, AT_ONCE)])
def test_the_ends_of_half_of_the_jobs_are_written_without_a_scan(store, one_key, outcome):
    claims = claim(store, Limit(JOBS), limit=JOBS // 2)
    assert len(claims) == JOBS // 2
    run(STATISTICS[connection.vendor])
    explained = Plans()
    with connection.execute_wrapper(explained):
        ended = store.finish_many([(one, outcome) for one in claims])

    assert len(ended) == len(claims)
    explained.must_not_read_all()
