"""T1 of jobs in a queue with a limit: each takes one of its slots while it runs.

The slots of a queue are rows that name a job and its token. A slot is taken as long as that job
runs under that token, so whatever ends the run gives the slot back by the same write: nothing is
counted, and nobody has to remember it. A claim holds the lock of the queue while it reads the
slots, claims as many jobs as there are free ones, and writes who has them.
"""

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db.models import QuerySet

from aftercommit.models import Slot
from aftercommit.options.queues import slots_key
from aftercommit.store.limits.claims import Limits
from aftercommit.values import Claim, ClaimQuery

TRIES, BETWEEN_TRIES = 3, 0.005  # seconds: a claim of somebody else holds the key for less
# A subquery for each slot, so that the planner looks its job up by the primary key. It would
# begin a join with all running jobs, of which there are none by its statistics.
SLOTS = """
SELECT slot.id, slot.number, (
    SELECT 1 FROM aftercommit_job AS job
    WHERE job.id = slot.job_id AND job.token = slot.token AND job.state = 'running'
)
FROM aftercommit_slot AS slot WHERE slot.key = %s
"""

ClaimSome = Callable[[ClaimQuery], list[Claim]]


class Slots(NamedTuple):
    """The slots of a queue as they were read."""

    taken: set[int]  # their numbers
    rows: dict[int, int]  # of the others that have one: by number, the row's key
    most: int

    @property
    def free(self) -> int:
        """How many more jobs may run."""
        return max(self.most - len(self.taken), 0)

    def for_claim(self, query: ClaimQuery) -> int:
        """Return how many jobs to claim: of those that could not begin now, others get a part."""
        beginning = self.free if query.startable is None else query.startable
        return min(query.limit, self.free, max(beginning, self.free // 2))

    def first_free(self, number: int) -> list[int]:
        """Return so many numbers of slots that are not taken."""
        found: list[int] = []
        one = 1
        while len(found) < number:
            if one not in self.taken:
                found.append(one)
            one += 1
        return found


class QueueLimits(Limits):
    """Claims jobs, also of queues with a limit."""

    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim; see ``Claims.claim``."""
        claims = self.in_slots(query, super().claim)
        if claims is None:
            self.end_leases(query.ended)
        return claims or []

    def in_slots(self, query: ClaimQuery, claim: ClaimSome) -> list[Claim] | None:
        """Claim by ``claim``, as many jobs as the queue has slots for; None if that is none."""
        if query.at_once is None:
            return claim(query)
        # Without the key at first: one statement, if the queue is full, or has only a few slots
        # and the threads here are busy.
        if self._slots_now(query.queue, query.at_once).for_claim(query):
            for number in range(TRIES):
                if number:
                    time.sleep(BETWEEN_TRIES)
                claims = self._after_deadlock(partial(self._claim_slots, query, claim))
                if claims is not None:
                    return claims
        return None

    def is_full(self, queue: str, at_once: int) -> bool:
        """Return whether so many jobs of a queue run now."""
        return not self._slots_now(queue, at_once).free

    @abstractmethod
    def _update_slots(self, rows: Sequence[tuple[int, UUID, int]]) -> None:
        """Write into rows by their keys which jobs have them, under which tokens."""

    def _claim_slots(self, query: ClaimQuery, claim: ClaimSome) -> list[Claim] | None:
        """Claim under the queue's key; None if somebody else has locked it."""
        with self._with_keys() as lock:
            if not lock([slots_key(query.queue)]):
                return None
            slots = self._slots_now(query.queue, query.at_once or 0)
            if not (most := slots.for_claim(query)):
                self.end_leases(query.ended)
                return []
            claims = claim(replace(query, limit=most, at_once=None))
            self._write_slots(query.queue, slots, claims)
        return claims

    def _slots_now(self, queue: str, at_once: int) -> Slots:
        rows = self._rows(SLOTS, [slots_key(queue)])
        taken = {number for _id, number, runs in rows if runs}
        free = {number: row_id for row_id, number, runs in rows if not runs}
        return Slots(taken, free, at_once)

    def _write_slots(self, queue: str, slots: Slots, claims: Sequence[Claim]) -> None:
        """Give each claim a slot; forget those beyond the limit, which was higher before."""
        known: list[tuple[int, UUID, int]] = []
        new: list[Slot] = []
        for claim, number in zip(claims, slots.first_free(len(claims)), strict=True):
            if (row_id := slots.rows.get(number)) is not None:
                known.append((row_id, claim.job_id, claim.token))
            else:
                has = {"job_id": claim.job_id, "token": claim.token}
                new.append(Slot(key=slots_key(queue), number=number, **has))
        # Rows that are there are updated by their ids. An upsert would lock what is beside them.
        if known:
            self._update_slots(known)
        if new:
            self._slots.bulk_create(new)
        if beyond := [row_id for number, row_id in slots.rows.items() if number > slots.most]:
            self._slots.filter(id__in=beyond).delete()

    @property
    def _slots(self) -> QuerySet[Slot]:
        return Slot.objects.using(self.alias)
