"""A deadlock in what users do with jobs: it is done again, unless it is part of a transaction."""

import pytest
from django.db import OperationalError, transaction

from aftercommit.store.table import TRIES_AFTER_DEADLOCK
from aftercommit.values import Failed
from tests.store.given import ERROR, claim_one, ready_job, state
from tests.store.test_prune import ANY_AGE


class Deadlock(Exception):
    """What a driver raises, whichever it is."""

    sqlstate = "40P01"


class Unlucky:
    """The method by which the store locks rows, or writes: the first calls end in a deadlock."""

    def __init__(self, monkeypatch, store, times, code=1213):
        self.left = times
        self._write = store._write
        self._code = code
        monkeypatch.setattr(store, "_write", self)

    def __call__(self):
        if self.left:
            self.left -= 1
            raise OperationalError("deadlock") from Deadlock(self._code, "deadlock")
        return self._write()


def failed_job(store):
    """Return a job that has failed."""
    ready_job(store)
    claim = claim_one(store)
    store.finish(claim, Failed(ERROR))
    return claim.job_id


OPERATIONS = {
    "prune": (lambda store, job_id: store.prune(older_than=ANY_AGE), "gone"),
    "retry": (lambda store, job_id: store.retry([job_id]), "ready"),
    "cancel": (lambda store, job_id: store.cancel([job_id]), "failed"),
}


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_a_deadlock_is_tried_again(store, monkeypatch, name):
    operation, end = OPERATIONS[name]
    job_id = failed_job(store)
    unlucky = Unlucky(monkeypatch, store, TRIES_AFTER_DEADLOCK)

    operation(store, job_id)

    assert unlucky.left == 0
    assert state(store, job_id) == end


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_deadlocks_without_end_are_raised(store, monkeypatch, name):
    job_id = failed_job(store)
    Unlucky(monkeypatch, store, TRIES_AFTER_DEADLOCK + 1)

    with pytest.raises(OperationalError):
        OPERATIONS[name][0](store, job_id)

    assert state(store, job_id) == "failed"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", OPERATIONS)
def test_in_the_callers_transaction_it_is_raised_at_once(store, monkeypatch, name):
    """The server has rolled back what the caller did before."""
    job_id = failed_job(store)
    unlucky = Unlucky(monkeypatch, store, 2)

    with pytest.raises(OperationalError), transaction.atomic():
        OPERATIONS[name][0](store, job_id)

    assert unlucky.left == 1
