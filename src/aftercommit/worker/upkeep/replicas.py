"""Lets each run read from the primary, or from a replica that has what its job was made of."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID
from weakref import ref

from django.db import Error, connections
from django.utils.connection import ConnectionDoesNotExist

from aftercommit import reads
from aftercommit.safe_log import log_line
from aftercommit.store.base import Store
from aftercommit.values import NO_TIME
from aftercommit.worker.runs import Run, now

BATCHES = 100  # of claims, whose positions are remembered
REST = timedelta(seconds=10)  # after a replica was behind for too long, or did not answer


class _Seen(threading.local):
    """Up to where the replicas of this thread's connections are known to have replayed."""

    def __init__(self) -> None:
        self.by_alias: dict[str, tuple[ref[object], str]] = {}


class ReplicaReads:
    """Called in the thread of a run before its body, in the context of the run.

    The commit of a job is in the log of the primary before a position that is read there after
    its claim. One position serves all jobs of a claim, and one wait those that a thread runs.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._positions: OrderedDict[UUID, str | None] = OrderedDict()  # by the lease of a claim
        self._resting: dict[str, float] = {}  # replicas for which nobody waits, until then
        self._seen = _Seen()

    def begin(self, runs: Sequence[Run]) -> None:
        """Choose where runs of one call read; waits for a replica if their task wants one.

        A replica has to have replayed the commits of all of them.
        """
        policy = runs[0].facts.policy
        replica = None
        if policy.read_from and not policy.atomic:  # an atomic one reads in its transaction
            replica = self._current_one(runs, policy.read_from, policy.replica_wait)
        reads.begin(using=self._store.alias, replica=replica)

    def _current_one(
        self, runs: Sequence[Run], aliases: Sequence[str], limit: timedelta
    ) -> str | None:
        of_each_claim = list({run.claim.lease_id: run for run in runs}.values())
        turn = runs[0].claim.job_id.int % len(aliases)
        in_turn = [*aliases[turn:], *aliases[:turn]]
        looks = [(alias, NO_TIME) for alias in in_turn[1:]]
        for alias, wait in [(in_turn[0], limit), *looks]:
            if all(self._is_current(run, alias, wait) for run in of_each_claim):
                return alias
        return None

    def _is_current(self, run: Run, alias: str, limit: timedelta) -> bool:
        rests = now() < self._resting.get(alias, 0.0)
        try:
            if self._store.is_same_database(alias):
                return True
            position = self._position_of(run)
            if position is None:
                return self._is_behind(alias, "the primary tells no position of its log")
            if self._has_seen(alias, position):
                return True
            if self._store.replica_has(alias, position, wait=NO_TIME if rests else limit):
                self._note(alias, position)
                return True
            return self._is_behind(alias, f"it has not replayed the job's commit within {limit}")
        except (Error, ConnectionDoesNotExist) as error:
            return self._is_behind(alias, f"{type(error).__name__}: {error}")

    def _position_of(self, run: Run) -> str | None:
        lease_id = run.claim.lease_id
        with self._lock:
            if lease_id in self._positions:
                return self._positions[lease_id]
        position = self._store.position()
        with self._lock:
            self._positions[lease_id] = position
            while len(self._positions) > BATCHES:
                self._positions.popitem(last=False)
        return position

    def _has_seen(self, alias: str, position: str) -> bool:
        raw, seen = self._seen.by_alias.get(alias, (None, None))
        return seen == position and raw is not None and raw() is connections[alias].connection

    def _note(self, alias: str, position: str) -> None:
        raw = connections[alias].connection
        if raw is not None:
            self._seen.by_alias[alias] = (ref(raw), position)

    def _is_behind(self, alias: str, why: str) -> bool:
        """Say once in a while why tasks read from the primary; return False."""
        if now() >= self._resting.get(alias, 0.0):
            self._resting[alias] = now() + REST.total_seconds()
            log_line(
                logging.WARNING,
                "Tasks read from %s and not from the replica %s: %s",
                self._store.alias,
                alias,
                why,
            )
        return False


def begin_reads(store: Store) -> Callable[[Sequence[Run]], None] | None:
    """Return what chooses where runs read; None if our router is not installed."""
    return ReplicaReads(store).begin if reads.is_installed() else None
