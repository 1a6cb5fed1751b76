"""Leases that nobody would write stop neither a rescue nor a page."""

from uuid import uuid4

import pytest

from aftercommit.models import Lease
from aftercommit.store.clock import in_future
from tests.store.given import ALREADY_OVER, LONG_AGO, MOST_CRASHES, claim_one, ready_job, state

HEX = "0123456789abcdef"
ODD = [
    *(
        "",
        " ",
        "no JSON",
        "null",
        "[]",
        "1",
        '"x"',
        "{",
        "{}",
        "[" * 100_000,
        '{"a": 1, "b": [2]}',
    ),
    *(f'{{"{"-" * 36}": 1}}', f'{{"{HEX[:13]}-{HEX * 2}"[:37]: 1}}', f'{{"{"f" * 32}": 1}}'),
    f'{{"{"0-" * 18}": 1}}',
    *(f'{{"HELD": {token}}}' for token in ("null", '"x"', "[]", "1.5", "9" * 5000)),
]


@pytest.mark.parametrize("jobs", ODD, ids=lambda one: one[:20])
def test_a_lease_that_cannot_be_read_is_over_without_a_rescue(jobs, store):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    ready_job(store)
    odd = Lease.objects.create(
        id=uuid4(),
        worker_id=uuid4(),
        lease_until=in_future(LONG_AGO),
        jobs=jobs.replace("HELD", str(job_id)),
    )

    assert store.counts() == {"ready": 1, "running": 1}
    assert store.held_by([odd.worker_id]) == 0
    (rescued,) = store.rescue(max_crashes=MOST_CRASHES)

    assert rescued.job_id == job_id
    assert state(store, job_id) == "ready"
    assert not Lease.objects.exists()
    assert store.counts() == {"ready": 2, "running": 0}
