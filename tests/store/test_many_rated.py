"""Many keys of rates at once: statements stay short, and few keys are locked together."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import F

from aftercommit.gcra import Rate
from aftercommit.models import Job, State
from aftercommit.models import Rate as RateRow
from aftercommit.store.base import Store
from aftercommit.values import UNLIMITED, Claim, Limit
from tests.store.callers import statements
from tests.store.given import claim_all, new_job

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
SLOW = Rate(HOUR)
TENANTS = 700
LONGEST = 50_000  # letters


def claim(store: Store, limit: Limit = UNLIMITED, **given: Any) -> list[Claim]:
    """Claim what is due of tasks with this rate."""
    given = {"limit": TENANTS, "rate_of": lambda _path: SLOW, **given}
    return claim_all(store, limit_of=lambda _path: limit, **given)


def one_of_each(store: Store, tenants: int = TENANTS, limit_key: str | None = None) -> None:
    """Enqueue a job of each tenant."""
    keys = [f"r{number:063d}" for number in range(tenants)]
    store.insert([new_job(limit_key=limit_key or key, rate_key=key) for key in keys])


def claim_and_park_all(store: Store) -> int:
    """Claim until nothing is left to decide; return how many have started."""
    started = 0
    while Job.objects.filter(claimable=True).exists():
        started += len(claim(store))
    return started


def test_a_claim_that_meets_the_lines_of_many_keys_is_made_of_short_statements(
    store: Store,
) -> None:
    for _turn in range(2):
        one_of_each(store)
    assert claim_and_park_all(store) == TENANTS
    RateRow.objects.update(tat=F("tat") - 2 * HOUR)
    one_of_each(store)

    with statements() as made:
        assert claim_and_park_all(store) == TENANTS

    assert max(len(sql) for sql, _given in made) < LONGEST


def test_no_more_keys_are_locked_at_once_than_the_store_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    together: list[int] = []
    keys_now = type(store)._keys_now

    def noted(self: Store, rates: Mapping[str, Rate]) -> Any:
        together.append(len(rates))
        return keys_now(self, rates)

    monkeypatch.setattr(type(store), "_keys_now", noted)
    monkeypatch.setattr(type(store), "most_keys", 4)
    one_of_each(store, 10, limit_key="shared")
    claims = claim(store, Limit(10))

    assert together == [4, 4, 2]
    assert len(claims) == Job.objects.filter(state=State.RUNNING).count() == 10
