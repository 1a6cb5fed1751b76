"""Looks after jobs whose worker has died or fallen silent."""

from collections.abc import Callable
from datetime import datetime, timedelta
from uuid import UUID

from aftercommit.process import Bell
from aftercommit.store.base import Rescued, Store
from aftercommit.worker.runs import now

LOOK_EVERY = timedelta(milliseconds=400)
LOOK_AGAIN = timedelta(milliseconds=200)  # while a lock looks free
# A healthy worker that has lost its connection takes its lock again within this time.
FREE_FOR = timedelta(milliseconds=700)
LOOKS = 3
AFTER_TROUBLE = timedelta(seconds=10)  # until a free lock means again that someone died
LONGEST_STEP = timedelta(seconds=1)
WORKERS_FORGOTTEN_AFTER = timedelta(days=1)
ONE_RESCUE = 100  # jobs


class Contact:
    """For how long this process has been in unbroken contact with a steady database.

    After an outage, a long lock or a jump of the clock, leases look over although their
    workers are healthy: they could not renew them either.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._last: tuple[datetime, float] | None = None

    def broken(self) -> None:
        """Begin anew."""
        self._since = self._last = None

    def seen(self, *, database: datetime, began: float) -> None:
        """Note an answer: the database's clock, and when the question was asked."""
        ended = now()
        slow = ended - began > LONGEST_STEP.total_seconds()
        if slow or (self._last is not None and self._jumped(database, ended)):
            self.broken()
        if self._since is None:
            self._since = ended
        self._last = (database, ended)

    @property
    def lasted(self) -> timedelta:
        """The span without trouble."""
        return timedelta(seconds=0 if self._since is None else now() - self._since)

    def _jumped(self, database: datetime, ended: float) -> bool:
        before, before_here = self._last or (database, ended)
        step = (database - before).total_seconds()
        return abs(step - (ended - before_here)) > LONGEST_STEP.total_seconds()


class Maintenance:
    """Rescues jobs, on one database alias, for whichever worker they belonged to."""

    def __init__(
        self,
        store: Store,
        *,
        worker_id: UUID,
        lease: timedelta,
        heartbeat: timedelta,
        max_crashes: int,
        rescued: Callable[[Rescued], None],
        forgotten: Callable[[], None],
    ) -> None:
        self._store = store
        self._worker_id = worker_id
        self._lease = lease
        self._heartbeat = heartbeat
        self._max_crashes = max_crashes
        self._rescued = rescued
        self._forgotten = forgotten
        self._locks_count_from = now()
        self._contact = Contact()
        self._free_since: dict[UUID, tuple[float, int]] = {}
        self._next_silent = now()
        self.looked = Bell()  # rung after each look
        self.settled = False  # no other worker looks dead at the moment

    def trouble(self) -> None:
        """Forget what is known about others: the database did not answer.

        They may have lost their connections, and with them their locks, as we did.
        """
        self._contact.broken()
        self._free_since.clear()
        self._locks_count_from = now() + AFTER_TROUBLE.total_seconds()

    def step(self) -> timedelta:
        """Look once; return when to look again."""
        began = now()
        clock, others = self._store.pulse(self._worker_id)
        self._contact.seen(database=clock, began=began)
        dead = self._dead_among(others)
        silent = now() >= self._next_silent
        if silent:
            silent = self._check_in()
        if dead or silent:
            self._rescue(dead, silent=silent)
        self.settled = not self._free_since
        self.looked.ring()
        if self._free_since:
            return LOOK_AGAIN
        return min(LOOK_EVERY, self._lease / 3)

    def _check_in(self) -> bool:
        """Write that we are there; True if leases may be judged.

        The write comes first: on SQLite it waits like everybody's, so a step that took
        long tells that the owners could not renew either.
        """
        began = now()
        if not self._store.workers.seen(self._worker_id):
            self._forgotten()  # taken for dead by someone, in error
        self._store.workers.forget_silent(WORKERS_FORGOTTEN_AFTER)
        clock, _others = self._store.pulse(self._worker_id)
        self._contact.seen(database=clock, began=began)
        self._next_silent = now() + min(self._heartbeat / 2, self._lease / 6).total_seconds()
        return self._contact.lasted >= self._lease

    def _dead_among(self, others: set[UUID]) -> set[UUID]:
        if now() < self._locks_count_from:
            return set()
        free = self._store.free_locks(others)
        looks = {one: self._free_since.get(one, (now(), 0)) for one in free}
        self._free_since = {one: (since, count + 1) for one, (since, count) in looks.items()}
        return {
            one
            for one, (since, count) in self._free_since.items()
            if count >= LOOKS and now() - since >= FREE_FOR.total_seconds()
        }

    def _rescue(self, dead: set[UUID], *, silent: bool) -> None:
        while True:
            rescued = self._store.rescue(
                max_crashes=self._max_crashes, dead_workers=dead, silent=silent, limit=ONE_RESCUE
            )
            for one in rescued:
                self._rescued(one)
            if len(rescued) < ONE_RESCUE:
                break
        if dead:
            self._store.bury(dead)
            for worker_id in dead:
                self._free_since.pop(worker_id, None)
