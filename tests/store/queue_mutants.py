"""The guards of queues with a limit, each weakened in memory: see ``mutants``."""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection

from aftercommit.store.base import Store
from aftercommit.store.limits import queues
from aftercommit.store.limits.claims import Limits
from aftercommit.store.limits.queues import QueueLimits, Slots
from aftercommit.store.mysql.limits import MySQLLimits
from tests.store.mutants import rewrite


def keys_of_queues_are_not_locked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Read the slots while somebody else is writing them."""
    with_keys = store._with_keys

    @contextmanager
    def for_tasks_only(self: Store) -> Iterator[Callable[[Collection[str]], set[str]]]:
        with with_keys(self) as lock:
            yield lambda keys: {
                one for one in keys if one.startswith("queue:") or one in lock([one])
            }

    patch.setattr(store, "_with_keys", for_tasks_only)


def slots_are_of_jobs_whatever_the_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take an old place of a job that runs again for one of its own."""
    rewrite(patch, queues, "SLOTS", ("AND job.token = slot.token", ""))


def slots_are_taken_whatever_the_state(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Wait for somebody to give slots back."""
    rewrite(patch, queues, "SLOTS", ("AND job.state = 'running'", ""))


def a_claim_takes_more_than_are_free(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask only whether there is a place."""
    patch.setattr(Slots, "free", property(lambda self: 100 * (len(self.taken) < self.most)))


def slots_are_not_written(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim, and tell nobody."""
    patch.setattr(QueueLimits, "_write_slots", lambda self, *given: None)


def slots_beyond_the_limit_stay(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Read for ever what a higher limit has left."""
    rows = QueueLimits._slots_now

    def all_within(self: QueueLimits, queue: str, at_once: int) -> Slots:
        found = rows(self, queue, at_once)
        return found._replace(rows={n: one for n, one in found.rows.items() if n <= found.most})

    patch.setattr(QueueLimits, "_slots_now", all_within)


def keys_are_released_before_the_commit(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Release the queue's key with those of the tasks in it."""
    assert connection.vendor == "mysql"
    patch.setattr(MySQLLimits, "_with_keys", MySQLLimits._releasing_keys)


def jobs_without_a_key_are_free(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim jobs of a task that is limited at run time as all others."""
    claim_free = store._claim_free

    def blind(self: Store, query: Any) -> Any:
        return claim_free(self, replace(query, limited={}))

    patch.setattr(store, "_claim_free", blind)


def the_key_of_a_task_is_not_written(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Meet such jobs, and leave them without a key."""
    patch.setattr(Limits, "_give_keys", lambda self, query, look, lock: look)


def keys_are_given_without_their_lock(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take a key for locked that somebody else has locked."""
    give_keys = Limits._give_keys

    def give(self: Limits, query: Any, look: Any, lock: Any) -> Any:
        return give_keys(self, query, look, set)

    patch.setattr(Limits, "_give_keys", give)
