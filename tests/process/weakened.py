"""Workers without one of their guards: what the fault tests must notice.

Imported by the worker through ``OPTIONS['task_modules']``; the environment names the guard.
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import Job
from aftercommit.store import finish as changes
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.store.claim import Claims
from aftercommit.store.limits.queues import Slots
from aftercommit.store.pruning import Archive, Found, Pruning
from aftercommit.store.rescue import Rescue, Rescued
from aftercommit.values import NO_TIME, Claim, Outcome, Released
from aftercommit.worker.descriptors import Descriptors
from aftercommit.worker.processes.launch import Child
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.pool import Pool
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.rescuer import SteadyContact

GUARD = "AFTERCOMMIT_TEST_WITHOUT"
STORE = type(store_for("default"))


def solitude() -> None:
    """Run jobs that were on a dead worker among all others."""
    claim = STORE.claim
    STORE.claim = lambda self, query: claim(self, replace(query, crashed=None))


def counting() -> None:
    """Count no crash."""
    rescue_one = Rescue._rescue_one

    def weak(self: Rescue, row: Job, *more: Any) -> Rescued | None:
        row.crashes, row.errors = -1, "[]"
        return rescue_one(self, row, *more)

    Rescue._rescue_one = weak


def board() -> None:
    """Do not tell what a dead process had begun from what it had only claimed."""
    Rescue.release_unstarted = lambda self, worker_id, **_begun: []


def judgement() -> None:
    """Blame the job for the death of its process, whoever has killed that."""
    Child.own_death = Child.death


def patience() -> None:
    """Keep jobs that were claimed ahead, however long they wait."""
    unstarted = Pool.unstarted

    def weak(self: Pool, *, held_for: timedelta = NO_TIME) -> list[Run]:
        return [] if held_for else unstarted(self)

    Pool.unstarted = weak


def rescue() -> None:
    """Take no job from the dead."""
    Rescue.rescue = lambda self, **_wanted: []


def token() -> None:
    """Let whoever has ever claimed a job end it."""

    def weak(self: Store, job_id: UUID, _token: int) -> QuerySet[Job]:
        return self._jobs.filter(id=job_id)

    Store._mine = weak
    STORE.finish_many = Claims.finish_many  # which asks _mine() on every database


def contact() -> None:
    """Judge leases right after an outage, in which nobody could renew them."""
    SteadyContact.lasted = property(lambda self: timedelta(days=1))


def release() -> None:
    """Keep the jobs that a stopping worker could not end."""
    finish_many = STORE.finish_many

    def weak(self: Store, ended: list[tuple[Claim, Outcome]]) -> frozenset[UUID]:
        return finish_many(self, [one for one in ended if not isinstance(one[1], Released)])

    STORE.finish_many = weak


def refund() -> None:
    """Let a run that was given back cost an attempt."""
    ending = changes.ending
    for module in (changes, sys.modules[STORE.__module__]):
        module.ending = lambda *given: replace(ending(*given), refund=0)


def reserve() -> None:
    """Let tasks have the descriptors that the worker keeps for itself."""
    release = Descriptors.release_reserve
    Descriptors.release_reserve = lambda self, **_given: release(self, in_task=False)


def archiving() -> None:
    """Archive jobs when they are deleted, instead of before and in the same transaction."""
    delete = Pruning._delete_unchanged

    def weak(self: Pruning, found: Found, archive: Archive | None) -> int:
        jobs = list(self._jobs.filter(id__in=found))
        gone = delete(self, found, None)
        if archive is not None:
            archive(jobs)
        return gone

    Pruning._delete_unchanged = weak


def tidying() -> None:
    """Leave connections to the next task as the last one left them."""
    ThreadConnections.tidy = lambda self: None


def places() -> None:
    """Claim from a queue with a limit as if nobody ran."""
    Slots.free = property(lambda self: self.most)


def queue_key() -> None:
    """Look at the places of a queue, and write them, beside others."""
    with_keys = STORE._with_keys

    @contextmanager
    def weak(self: Store) -> Iterator[Callable[[Collection[str]], set[str]]]:
        with with_keys(self) as lock:
            yield lambda keys: {
                one for one in keys if one.startswith("queue:") or one in lock([one])
            }

    STORE._with_keys = weak


GUARDS: dict[str, Callable[[], None]] = {
    guard.__name__: guard
    for guard in (
        archiving,
        board,
        contact,
        counting,
        judgement,
        patience,
        places,
        queue_key,
        refund,
        release,
        rescue,
        reserve,
        solitude,
        tidying,
        token,
    )
}
if wanted := os.environ.get(GUARD):
    GUARDS[wanted]()
