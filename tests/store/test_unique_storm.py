"""Uniqueness under everything at once: rollbacks, retries, rescues, retries by hand (TORTURE 19).

Fifty callers want the same keys at the same time. Some roll back, some replace, some refuse;
beside them jobs are run, fail, lose their workers and are retried by hand. Whoever was
told of a job must have it, no key may ever have two live jobs, and nobody hears of an
IntegrityError.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Lock
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection, connections, transaction

from aftercommit.errors import EnqueueFailed, JobExists
from aftercommit.models import LIVE, UNSUCCESSFUL, Job
from aftercommit.store import store_for
from aftercommit.transient_errors import is_conflict
from aftercommit.values import ClaimQuery, Failed, OnConflict, Released, Retry, Succeeded
from tests.store.given import ALREADY_OVER, ERROR, LEASE, new_job
from tests.store.test_isolation import set_isolation
from tests.tiers import size
from tests.waiting import SOON

RULES = [OnConflict(), OnConflict(), OnConflict(replaces=True), OnConflict(refuses=True)]
ENDS = [Succeeded(), Failed(ERROR), Retry(ERROR), Released()]
ROLLS_BACK, IN_TRANSACTION, LOSES_ITS_WORKER = 0.3, 0.6, 0.4  # shares
ISOLATIONS = [USUAL := "READ COMMITTED", "REPEATABLE READ"]
LONG = SOON.total_seconds() * 20
NEEDED = ("inserted", "met", "at once", "rolled back", "rescued", "retried", "clashed", "looks")
MOST_ROUNDS, TURN = 100, 1.0
CALLERS, KEYS = size(change=4, full=50), size(change=8, full=1000)
KEYS_BESIDE = size(change=8, full=100)  # jobs that are run; the callers want each many times
FEW_CALLERS, FEW_KEYS = size(change=3, full=10), size(change=6, full=100)  # of one writer


class RolledBack(Exception):
    """A caller has changed its mind."""


@dataclass
class Storm:
    """What happens to some keys, and what was said about it."""

    keys: int
    until_started: bool
    needed: Collection[str] = ()  # what must have happened; see ``seen``
    over: Event = field(default_factory=Event)
    worked: Event = field(default_factory=Event)  # a worker has been through all that it does
    told: set[UUID] = field(default_factory=set)  # ids of whose existence a caller is sure
    seen: Counter[str] = field(default_factory=Counter)
    at_key: Counter[str] = field(default_factory=Counter)  # callers who want it at this moment
    lock: Lock = field(default_factory=Lock)

    def enqueue(self, number: int) -> None:
        """Want every key, in a transaction or not, until all has happened that should."""
        chance = random.Random(number)
        for _round in range(MOST_ROUNDS):
            for key in range(self.keys):
                self._enqueue(f"key {key}", chance)
            if all(self.seen[happened] for happened in self.needed):
                return
            # On SQLite the callers may otherwise leave the workers no turn to write.
            self.worked.wait(TURN)
            self.worked.clear()

    def _enqueue(self, key: str, chance: random.Random) -> None:
        rule, in_transaction = chance.choice(RULES), chance.random() < IN_TRANSACTION
        rolls_back = in_transaction and chance.random() < ROLLS_BACK
        for _try in range(200):
            try:
                with self._at(key):
                    self._enqueue_once(key, rule, alone=not in_transaction, rolls_back=rolls_back)
            except JobExists:
                self.seen["refused"] += 1
            except RolledBack:
                self.seen["rolled back"] += 1
            except EnqueueFailed:
                self.seen["holders came and went"] += 1
                continue
            except OperationalError as error:
                if not is_conflict(error, vendor=connection.vendor):
                    raise
                # Outside of a transaction only SQLite's callers may have waited too long.
                assert in_transaction or connection.vendor == "sqlite", error
                self.seen["repeated"] += 1
                continue
            return
        raise AssertionError(f"{key} could not be enqueued in 200 tries")

    @contextmanager
    def _at(self, key: str) -> Iterator[None]:
        """Count the callers who want a key while another one does: these are in conflict."""
        with self.lock:
            self.seen["at once"] += self.at_key[key] > 0
            self.at_key[key] += 1
        try:
            yield
        finally:
            with self.lock:
                self.at_key[key] -= 1

    def _enqueue_once(self, key: str, rule: OnConflict, *, alone: bool, rolls_back: bool) -> None:
        job = new_job(unique_key=key, unique_until_started=self.until_started)
        if alone:
            (placed,) = store_for("default").insert_unique([job], rule)
        else:
            with transaction.atomic():
                (placed,) = store_for("default").insert_unique([job], rule)
                if rolls_back:
                    raise RolledBack
        self.told.add(placed.job_id)
        self.seen["met" if placed.holder else "inserted"] += 1

    def work(self, number: int) -> None:
        """Run jobs, whatever comes of them."""
        chance, store = random.Random(-number), store_for("default")
        while not self.over.is_set():
            dies = chance.random() < LOSES_ITS_WORKER
            query = ClaimQuery(
                queue="default",
                limit=5,
                worker_id=uuid4(),
                lease=ALREADY_OVER if dies else LEASE,
            )
            with self._conflicts():
                claims = store.claim(query)
                if not dies:
                    ended = store.finish_many([(claim, chance.choice(ENDS)) for claim in claims])
                    self.seen.update(f"ended as {one.state}" for one in ended)
            self._rescue_and_retry()
            self.worked.set()

    @contextmanager
    def _conflicts(self) -> Iterator[None]:
        """Go on after a deadlock, or SQLite's "database is locked", as a worker does."""
        try:
            yield
        except OperationalError as error:
            if not is_conflict(error, vendor=connection.vendor):
                raise
            self.seen["conflicts of workers"] += 1

    def _rescue_and_retry(self) -> None:
        """Be the rescuer, and somebody who retries by hand what has failed."""
        store = store_for("default")
        with self._conflicts():
            self.seen["rescued"] += len(store.rescue(max_crashes=3))
        failed = Job.objects.filter(state__in=UNSUCCESSFUL).values_list("id", flat=True)
        with self._conflicts():
            answer = store.retry(list(failed[:20]))
            self.seen["retried"] += len(answer.ready)
            self.seen["clashed"] += len(answer.clashed)

    def watch(self) -> None:
        """See that no key ever has two live jobs which count."""
        while not self.over.is_set():
            held = live_keys()
            assert max(held.values(), default=1) == 1, held.most_common(3)
            self.seen["looks"] += 1


def live_keys() -> Counter[str]:
    """Count the live jobs of each key; not those that have given it back at their start."""
    rows = Job.objects.filter(state__in=LIVE)
    given_back = rows.filter(unique_until_started=True, unique_lock=None)
    return Counter(rows.exclude(id__in=given_back).values_list("unique_key", flat=True))


@contextmanager
def threads(count: int) -> Iterator[Callable[..., Future[None]]]:
    """Run things beside each other, each on a connection of its own, of an isolation."""

    def whole(isolation: str, call: Callable[..., None], *args: object) -> None:
        try:
            if connection.vendor != "sqlite":
                set_isolation(isolation)
            call(*args)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        yield partial(pool.submit, whole)


@pytest.fixture(params=ISOLATIONS)
def isolation(request, vendor):
    """Return the isolation of the callers' sessions."""
    if vendor == "sqlite" and request.param != ISOLATIONS[0]:
        pytest.skip("SQLite knows one isolation")
    return request.param


def run(storm: Storm, isolation: str, *, callers: int, workers: int) -> None:
    """Let it rage until every caller has wanted every key."""
    with threads(callers + workers + 1) as start:
        others = [partial(storm.work, number) for number in range(workers)]
        others += [storm.watch] if workers else []
        beside = [start(USUAL, other) for other in others]
        begun = [start(isolation, storm.enqueue, number) for number in range(callers)]
        try:
            for one in begun:
                one.result(LONG)
        finally:
            storm.over.set()
        for one in beside:
            one.result(LONG)


@pytest.fixture
def callers(vendor):
    """Return how many callers there are; on SQLite they wait for each other in any case."""
    return FEW_CALLERS if vendor == "sqlite" else CALLERS


@pytest.fixture
def keys(vendor):
    """Return how many keys they want."""
    return FEW_KEYS if vendor == "sqlite" else KEYS


def test_however_many_want_a_key_one_of_them_gets_it_and_all_know(isolation, callers, keys):
    storm = Storm(keys=keys, until_started=False)

    run(storm, isolation, callers=callers, workers=0)

    assert live_keys() == {f"key {number}": 1 for number in range(keys)}
    assert storm.told == set(Job.objects.values_list("id", flat=True))
    assert storm.seen["inserted"] == keys
    assert storm.seen["rolled back"] > 0
    assert storm.seen["met"] > 0
    assert storm.seen["at once"] > 0


@pytest.mark.parametrize("until_started", [False, True])
def test_retries_and_rescues_double_no_key(isolation, until_started, callers, keys):
    keys = min(keys, KEYS_BESIDE)
    storm = Storm(keys=keys, until_started=until_started, needed=NEEDED)

    run(storm, isolation, callers=callers, workers=2)

    assert storm.told <= set(Job.objects.values_list("id", flat=True))
    assert [happened for happened in NEEDED if not storm.seen[happened]] == [], storm.seen
    last = [new_job(unique_key=f"key {number}") for number in range(keys)]
    store_for("default").insert_unique(last, OnConflict())
    assert live_keys() == {f"key {number}": 1 for number in range(keys)}
