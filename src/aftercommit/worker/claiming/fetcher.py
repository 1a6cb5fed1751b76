"""From which queues jobs are claimed, and in what order."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from math import ceil
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import Error

from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Group, LineMet, nobody_listens
from aftercommit.worker.claiming.ageing import Ageing
from aftercommit.worker.claiming.batch_queues import BatchQueues
from aftercommit.worker.claiming.bounds import Bounds
from aftercommit.worker.claiming.broker_share import is_held_back
from aftercommit.worker.claiming.closed_queues import ClosedQueues
from aftercommit.worker.claiming.cursor import ClaimCursor
from aftercommit.worker.claiming.fair import FairLines
from aftercommit.worker.claiming.in_order import InOrder
from aftercommit.worker.claiming.misfits import Misfits
from aftercommit.worker.claiming.own_queues import OwnQueues
from aftercommit.worker.claiming.paused_tasks import PausedTasks
from aftercommit.worker.claiming.turns import Turns, TurnsOfQueues, groups_in_turn
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts

LOOK_EVERY = timedelta(milliseconds=100)  # for queues with due jobs, while there are many
SHARE = 0.02  # of the time, that these looks may take
LONGEST_PAUSE = timedelta(seconds=2)  # also where an open transaction makes looks slow
KEPT = timedelta(seconds=5)  # a queue, after its last claim: its next job is claimed at once
MOST_KEPT = 4  # queues; each costs every claim a statement

ClaimWithFacts = tuple[Claim, "TaskFacts"]


class Fetcher:
    """Claims due jobs queue by queue, beginning with another queue each time.

    One statement finds all queues with due jobs, and one claims jobs of a queue.
    """

    def __init__(
        self,
        store: Store,
        served: Served,
        crashed: CrashedJobs,
        leases: Leases,
        rules: RulesInForce,
        *,
        worker_id: UUID,
        facts_of: Callable[[Claim], "TaskFacts | None"],
        line_met: LineMet = nobody_listens,
    ) -> None:
        self._store = store
        self._served = served
        self._own = OwnQueues(served)
        self._crashed = crashed
        self._leases = leases
        self._rules = rules
        self.aside = PausedTasks(store, rules)
        self.in_order = InOrder(leases)
        self.bounds = Bounds()
        self.closed = ClosedQueues()
        self.ageing = Ageing(store, served.known_backends)
        self.lines = FairLines(store, leases, served.known_backends, self._put_off)
        self._worker_id = worker_id
        self._facts_of = facts_of
        self._line_met = line_met
        self._misfits = Misfits(store, leases)
        self.batches = BatchQueues()
        self._groups: dict[str, list[Group]] = {}  # with due jobs, by queue
        self._next_look = float("-inf")
        self._busy = False  # the last claim has found jobs
        self._claimed_at: dict[str, float] = {}  # by queue
        self._cursors: defaultdict[str, ClaimCursor] = defaultdict(ClaimCursor)
        self._error: Exception | None = None  # to be raised by the next fetch
        self._backends = TurnsOfQueues()
        self._turns = Turns(may_ask=self._may_ask, choice=served.queues)

    def fetch(self, *, limit: float, most: int | None = None) -> list[ClaimWithFacts]:
        """Claim jobs of tasks that this process has; return the facts as well.

        ``limit``: for so many threads, of which one takes one job, or a batch; ``most`` jobs.
        """
        most = ceil(limit) if most is None else most
        if self._served.crashed and self._served.only is None:
            return self._fetch_crashed(limit=min(ceil(limit), most))
        if (error := self._error) is not None:
            self._error = None
            raise error
        self.bounds.short_of_slots = False
        self._turns.begin()
        self.in_order.begin()
        self.aside.begin()
        # A busy worker looks now and then for queues and priorities that are new; an idle one
        # claims at once where it has found the last job.
        if look := self._busy and time.monotonic() > self._next_look:
            self._look_for_due()
        claims = self._walk(list(self._groups), limit=limit, most=most)
        if not claims and not look:
            claims = self._walk(self._look_for_due(), limit=limit, most=most)
        self._busy = bool(claims)  # also if it was not full: then no claim may ever be empty
        return claims

    def _fetch_crashed(self, *, limit: int) -> list[ClaimWithFacts]:
        """Claim jobs with crashes by their ids; other workers may be faster, or hold locks."""
        claims: list[ClaimWithFacts] = []
        while not claims and (taken := self._crashed.take(limit)):
            self._rules.refresh()
            for queue, job_ids in taken.items():
                if not is_held_back(queue) and queue not in self._rules.paused_queues:
                    query = self._query(queue, limit=len(job_ids), only=job_ids)
                    try:
                        claims += self._with_facts(self._ask(query))
                    except Exception as error:
                        self._put_off(error, claims)
        if claims:
            self._crashed.claimed()
        return claims

    def _walk(self, queues: Sequence[str], *, limit: float, most: int) -> list[ClaimWithFacts]:
        claims: list[ClaimWithFacts] = []
        if queues:
            self._rules.refresh()
        try:
            for queue in self._turns.order(queues):
                wanted = min(ceil(limit * self.batches.size(queue)), most - len(claims))
                if wanted <= 0:
                    break
                left = self.in_order.limit(queue, wanted)
                found = self._with_facts(self._claim_in_order(queue, limit=left))
                self.batches.claimed(queue, found)
                limit -= sum(1 if one.batch is None else one.batch.weight for _, one in found)
                claims += found
        except Exception as error:
            self._put_off(error, claims)
        return claims

    def _put_off(self, error: Exception, claims: Sequence[object]) -> None:
        """Raise an error now if there are no claims: these are committed, and must be returned.

        The next fetch raises it; an error of the database only if it lasts.
        """
        if not claims:
            raise error
        if not isinstance(error, Error):
            self._error = error

    def _may_ask(self, queue: str) -> bool:
        if queue in self._rules.paused_queues or is_held_back(queue):
            return False
        return not (self.in_order.must_wait(queue) or self.closed.must_wait(queue))

    def _with_facts(self, claims: Iterable[Claim]) -> list[ClaimWithFacts]:
        known: list[ClaimWithFacts] = []
        unknown: list[Claim] = []
        for claim in claims:
            try:
                facts = self._facts_of(claim)
            except Exception as error:  # of the project's backend, say
                self._put_off(error, [claim])
                facts = None
            if facts is None:
                unknown.append(claim)
            else:
                known.append((claim, facts))
        if unknown:
            self._misfits.release(unknown)
        return known

    def _claim_in_order(self, queue: str, *, limit: int) -> list[Claim]:
        # Two turns each: of one job, fair lines and all others get every other turn.
        groups = groups_in_turn(self._groups[queue], self._backends.next(queue) // 2)
        if self._served.only is None and not self.aside.clear(queue, groups):
            return []
        query = self._query(queue, limit=limit, groups=groups, only=self._served.only)
        if query.fair:
            others = partial(self._claim_in_groups, query) if groups else None
            claims = self.lines.claim(query, others=others)
        else:
            claims = self._claim_in_groups(query, limit)
        self.in_order.claimed(queue, claims)
        if claims:
            self._claimed_at[queue] = time.monotonic()
        self._turns.asked(queue, in_vain=not claims)
        if len(claims) < limit and len(self._groups) > MOST_KEPT:
            del self._groups[queue]  # empty now; the next look finds it if it has jobs again
        return claims

    def _claim_in_groups(self, query: ClaimQuery, limit: int) -> list[Claim]:
        early = self.ageing.claim(query, limit, self._ask)
        limit -= len(early)
        cursor = self._cursors[query.queue]
        query = replace(query, limit=limit, after=cursor.position, limited_first=cursor.limited)
        claims: list[Claim] = []
        try:
            if query.after is not None and limit:
                claims = self._ask(query)
        except Exception as error:
            self._put_off(error, early)
        if len(claims) < limit:
            began = time.monotonic()
            try:
                claims += self._ask(replace(query, limit=limit - len(claims), after=None))
            except Exception as error:
                self._put_off(error, early + claims)
            cursor.looked_from_front(seconds=time.monotonic() - began)
        cursor.claimed(claims, groups=query.groups or (), full=len(claims) == limit)
        return early + claims

    def _ask(self, query: ClaimQuery) -> list[Claim]:
        """Claim, and delete the leases that have ended in the same transaction."""
        ended = self._leases.ended_together
        claims = self._store.claim(replace(query, ended=ended))
        self._leases.opened(claims)
        self._leases.deleted(ended)
        return claims

    def _query(
        self,
        queue: str,
        *,
        limit: int,
        only: Sequence[UUID] | None,
        groups: Sequence[tuple[str, int]] | None = None,
    ) -> ClaimQuery:
        at_once = self._rules.queue_limits.get(queue)
        rate = self._rules.rates.of_queues.get(queue)
        return ClaimQuery(
            queue=queue,
            limit=limit,
            worker_id=self._worker_id,
            lease=self._served.options.lease,
            backends=self._served.known_backends,
            groups=groups,
            unknown=sorted(self._misfits.unknown | self._rules.paused_tasks),
            only=only,
            paused=sorted(self._rules.paused_tasks),
            fair=only is None and self.lines.active,
            crashed=self._served.crashed,
            limit_of=self._rules.limit_of,
            needed=self.bounds.needed if only is None else None,
            slots_used_up=self.bounds.slots_used_up,
            limited=self._rules.limited,
            at_once=at_once,
            startable=self.bounds.startable(queue) if at_once or rate else None,
            rate_of=self._rules.rates.rate_of,
            rated=self._rules.rates.keys,
            line_met=self._line_met,
            queue_rate=rate,
            queue_closed=self.closed.note,
        )

    def _look_for_due(self) -> list[str]:
        """Return the queues with due jobs; keep those as well that had some a moment ago."""
        began = time.monotonic()
        recent = [
            queue
            for queue, claimed_at in self._claimed_at.items()
            if queue in self._groups and began - claimed_at <= KEPT.total_seconds()
        ]
        latest = sorted(recent, key=self._claimed_at.__getitem__)[-MOST_KEPT:]
        kept = {queue: self._groups[queue] for queue in latest}
        found: dict[str, list[Group]] = {}
        for group in self.ageing.due_groups():
            if self._own.serves(group.backend, group.queue):
                found.setdefault(group.queue, []).append(group)
        for queue in self.lines.look(self._own.serves):
            found.setdefault(queue, kept.get(queue, []))
        self._groups = kept | found
        self._turns.looked(found)
        ended = time.monotonic()
        pause = min((ended - began) / SHARE, LONGEST_PAUSE.total_seconds())
        self._next_look = ended + max(LOOK_EVERY.total_seconds(), pause)
        for known in (self._cursors, self._claimed_at):
            for gone in known.keys() - self._groups.keys():
                del known[gone]
        return sorted(found)
