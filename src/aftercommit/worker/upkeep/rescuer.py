"""Rescues jobs from workers that have died, or that no longer renew their leases."""

from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from aftercommit.options.conf import BackendOptions
from aftercommit.process import Bell
from aftercommit.store.base import Rescued, Store
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.recycling import resident
from aftercommit.worker.runs import now
from aftercommit.worker.upkeep.contact import SteadyContact

# A healthy worker that has lost its connection locks again within this time.
FREE_FOR = timedelta(milliseconds=700)
LOOKS = 3
LOOK_EVERY = timedelta(milliseconds=500)  # so a death is certain after 1.2 s at most
LOOK_AGAIN = FREE_FOR / (LOOKS - 1)  # while a session lock looks free
LOOK_IF_ALONE = timedelta(seconds=2)  # while there is no worker that could die
AFTER_TROUBLE = timedelta(seconds=10)  # until a free lock again means that a worker has died
WORKERS_FORGOTTEN_AFTER = timedelta(days=1)
FORGET_EVERY = timedelta(minutes=10)
ONE_RESCUE = 100  # jobs


class Rescuer:
    """Rescues jobs for one worker process; any number of processes may do so at once."""

    def __init__(
        self,
        store: Store,
        options: BackendOptions,
        crashed: CrashedJobs,
        *,
        worker_id: UUID,
        rescued: Callable[[Rescued], None],
        forgotten: Callable[[], None],
        trusts_locks: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._options = options
        self._crashed = crashed
        self._worker_id = worker_id
        self._rescued = rescued
        self._forgotten = forgotten  # called if another worker has deleted this worker's row
        self._trusts_locks = trusts_locks  # False behind a pooler in transaction mode
        self._locks_count_from = now()
        self._contact = SteadyContact()
        self._free_since: dict[UUID, tuple[float, int]] = {}
        self._next_check_in = self._next_forgetting = now()
        self.looked = Bell()  # rung after each look
        self.settled = False  # no other worker looks dead

    @property
    def sees_crashed(self) -> bool:
        """Whether jobs with crashes are due soon, or a dead worker is about to leave some."""
        return self._crashed.are_near or bool(self._free_since)

    def trouble(self) -> None:
        """Forget what was observed about other workers: the database did not answer.

        Healthy workers may have lost their connections, and with them their session locks.
        """
        self._contact.broken()
        self._free_since.clear()
        self._locks_count_from = now() + AFTER_TROUBLE.total_seconds()

    def step(self) -> timedelta:
        """Look once; return when to look again."""
        began = now()
        checks_in = began >= self._next_check_in
        if checks_in:
            self._check_in()
        look = self._store.look(self._worker_id)
        self._contact.seen(database=look.clock, began=began)
        # An expired lease means a silent worker.
        silent = checks_in and self._contact.lasted >= self._options.lease
        dead = self._dead_among(look.free)
        if dead or silent:
            self._rescue(dead, silent=silent)
        self.settled = not self._free_since
        self.looked.ring()
        if self._free_since:
            return LOOK_AGAIN
        return min(LOOK_EVERY if look.others else LOOK_IF_ALONE, self._options.lease / 3)

    def _check_in(self) -> None:
        """Update this worker's row, and see to what is done as rarely.

        The look comes after the write: on SQLite that waits for the same lock as a renewal, so
        a slow step shows that the other workers could not renew their leases.
        """
        if not self._store.workers.seen(self._worker_id, memory=resident() or None):
            self._forgotten()
        if now() >= self._next_forgetting:
            self._store.workers.forget_silent(WORKERS_FORGOTTEN_AFTER)
            self._next_forgetting = now() + FORGET_EVERY.total_seconds()
        self._crashed.look()
        pause = min(self._options.heartbeat / 2, self._options.lease / 6)
        self._next_check_in = now() + pause.total_seconds()

    def _dead_among(self, free: set[UUID]) -> set[UUID]:
        if now() < self._locks_count_from or not self._trusts_locks():
            self._free_since.clear()
            return set()
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
                max_crashes=self._options.max_crashes,
                dead_workers=dead,
                silent=silent,
                limit=ONE_RESCUE,
            )
            for one in rescued:
                self._rescued(one)
            if rescued:
                self._crashed.look(at_once=True)
            if len(rescued) < ONE_RESCUE:
                break
        if dead:
            self._store.forget(dead)
            for worker_id in dead:
                self._free_since.pop(worker_id, None)
