"""Eight threads at the same fifty jobs: our own statements never stand in each other's way."""

import random
from datetime import timedelta

from aftercommit.values import Failed, Released, Retry, Succeeded
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    LEASE,
    MOST_CRASHES,
    claim_all,
    ready_job,
    ready_jobs,
)

THREADS = 8
ROUNDS = 12
A_HANG = 120  # seconds
SOON_OVER = timedelta(milliseconds=1)
OUTCOMES = [Succeeded(), Retry(ERROR), Failed(ERROR), Released()]


class Hand:
    """One of many who do at random whatever can be done to jobs."""

    def __init__(self, store, job_ids, seed):
        self._store = store
        self._ids = job_ids
        self._random = random.Random(seed)
        self._claims = []
        self.done = dict.fromkeys(self.acts, 0)

    def work(self):
        """Do many things; return how often each changed something."""
        for _round in range(ROUNDS):
            for name in self._random.sample(sorted(self.acts), len(self.acts)):
                self.done[name] += bool(self.acts[name](self))
        return self.done

    def some(self):
        """Choose jobs, in no order."""
        return self._random.sample(self._ids, 12)

    def claim(self):
        """Take jobs, some with a lease that is over."""
        lease = self._random.choice([LEASE, SOON_OVER, ALREADY_OVER])
        claims = claim_all(self._store, limit=self._random.randint(1, 10), lease=lease)
        self._claims += claims
        return claims

    def finish(self):
        """End runs in one batch, also those long lost."""
        self._random.shuffle(self._claims)
        batch, self._claims = self._claims[:12], self._claims[6:40]
        ended = {claim.job_id: claim for claim in batch}.values()
        return self._store.finish_many(
            [(claim, self._random.choice(OUTCOMES)) for claim in ended]
        )

    def renew(self):
        """Extend leases."""
        return self._store.renew(self._claims, lease=LEASE)

    def rescue(self):
        """Take jobs from the silent."""
        return self._store.rescue(max_crashes=MOST_CRASHES, limit=10)

    def cancel(self):
        """Cancel jobs in bulk."""
        return self._store.cancel(self.some()).cancelled

    def retry(self):
        """Give second lives."""
        return self._store.retry(self.some()).ready

    def prune(self):
        """Delete some that have ended; others come in their place."""
        gone = self._store.prune(older_than=ALREADY_OVER, states=["succeeded"], limit=3)
        self._ids += ready_jobs(self._store, gone)
        return gone

    acts = {
        "claim": claim,
        "finish": finish,
        "renew": renew,
        "rescue": rescue,
        "cancel": cancel,
        "retry": retry,
        "prune": prune,
    }


def test_eight_threads_do_everything_to_the_same_jobs_without_an_error(
    store, new_caller, pytestconfig
):
    seed = pytestconfig.getoption("randomly_seed", 1)
    job_ids = [ready_job(store, unique_key=str(number)) for number in range(25)]
    job_ids += ready_jobs(store, 25)
    hands = [Hand(store, job_ids, f"{seed} {number}") for number in range(THREADS)]

    begun = [new_caller().start(hand.work) for hand in hands]

    done = [one.result(A_HANG) for one in begun]  # the first deadlock would be raised here
    changed = {name: sum(one[name] for one in done) for name in Hand.acts}
    assert min(changed.values()) > 0, changed
