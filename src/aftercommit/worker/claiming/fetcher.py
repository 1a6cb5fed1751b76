"""Which queues are asked for jobs, and in what order."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import Error

from aftercommit.enqueue.task import registered
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Released
from aftercommit.worker.claiming.broker_backoff import is_paused
from aftercommit.worker.claiming.cursor import ClaimCursor
from aftercommit.worker.config import Served

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts

logger = logging.getLogger("aftercommit")

LEFT_FOR = timedelta(seconds=10)  # a job that this process cannot run
QUEUE_NAMES_KEPT = timedelta(seconds=1)

Known = tuple[Claim, "TaskFacts"]


class Fetcher:
    """Claims due jobs queue by queue, beginning with another queue each time.

    One statement for each queue, because only so it walks the index; in turn, so that a
    full queue does not starve the others.
    """

    def __init__(
        self,
        store: Store,
        served: Served,
        *,
        worker_id: UUID,
        facts_of: Callable[[Claim], "TaskFacts | None"],
    ) -> None:
        self._store = store
        self._served = served
        self._worker_id = worker_id
        self._facts_of = facts_of
        self._unknown: set[str] = set()  # paths of tasks
        self._found: list[str] = []  # queue names in the table
        self._found_at = float("-inf")
        self._cursors: defaultdict[str, ClaimCursor] = defaultdict(ClaimCursor)
        self._turn = 0

    def fetch(self, *, limit: int) -> list[Known]:
        """Claim up to ``limit`` jobs of tasks that this process knows; say what it knows."""
        self._turn += 1
        every_queue = self._served.queues is None
        looked_up = every_queue and self._names_are_old()
        if looked_up:
            self._look_up_names()
        claims = self._walk(self._names, limit=limit)
        if not claims and every_queue and not looked_up:
            self._look_up_names()  # perhaps a new queue
            claims = self._walk(self._names, limit=limit)
        return claims

    def _walk(self, queues: Sequence[str], *, limit: int) -> list[Known]:
        claims: list[Known] = []
        for number in range(len(queues)):
            if len(claims) >= limit:
                break
            queue = queues[(self._turn + number) % len(queues)]
            if is_paused(queue):
                continue
            try:
                claims += self._claim(queue, limit=limit - len(claims))
            except Error:
                if not claims:
                    raise
                break  # those of the queues before are ours, and must not be forgotten
        return claims

    def _claim(self, queue: str, *, limit: int) -> list[Known]:
        known: list[Known] = []
        unknown: list[Claim] = []
        for claim in self._claim_in_order(queue, limit=limit):
            facts = self._facts_of(claim)
            if facts is None:
                unknown.append(claim)
            else:
                known.append((claim, facts))
        if unknown:
            self._leave(unknown)
        return known

    def _claim_in_order(self, queue: str, *, limit: int) -> list[Claim]:
        cursor = self._cursors[queue]
        query = ClaimQuery(
            queue=queue,
            limit=limit,
            worker_id=self._worker_id,
            lease=self._served.options.lease,
            backends=self._served.backends,
            unknown=sorted(self._unknown),
            only=self._served.only,
            after=cursor.position,
            crashed=self._served.crashed,
        )
        claims: list[Claim] = []
        if query.after is not None:
            claims = self._store.claim(query)
        if len(claims) < limit:
            began = time.monotonic()
            try:
                claims += self._store.claim(replace(query, limit=limit - len(claims), after=None))
            except Error:
                if not claims:
                    raise
            cursor.looked_from_front(seconds=time.monotonic() - began)
        cursor.claimed(claims, full=len(claims) == limit)
        return claims

    def _leave(self, claims: list[Claim]) -> None:
        """Release jobs that this process cannot run, for a worker that can."""
        for path in sorted({claim.task_path for claim in claims} - self._unknown):
            logger.warning(
                "%s is not known to this worker, or its backend is not; its jobs stay ready for "
                "one that knows them. Is its module named tasks.py, or listed in "
                "OPTIONS['task_modules']? Does TASKS have its backend?",
                path,
            )
        self._unknown |= {
            claim.task_path for claim in claims if registered(claim.task_path) is None
        }
        # With a delay: a task that is known, on a backend that is not, is found again.
        try:
            self._store.finish_many([(claim, Released(LEFT_FOR)) for claim in claims])
        except Error:
            logger.warning("Jobs that cannot run here were not released; their leases will end")

    @property
    def _names(self) -> Sequence[str]:
        return self._found if self._served.queues is None else self._served.queues

    def _names_are_old(self) -> bool:
        return time.monotonic() - self._found_at > QUEUE_NAMES_KEPT.total_seconds()

    def _look_up_names(self) -> None:
        found = self._store.queues()
        relays = self._served.relays
        self._found = [one for one in found if relays or not one.startswith(QUEUE_PREFIX)]
        self._found_at = time.monotonic()
