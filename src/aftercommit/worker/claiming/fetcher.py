"""From which queues jobs are claimed, and in what order."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import Error

from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.task import registered
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Position, Released
from aftercommit.worker.claiming.broker_backoff import is_backing_off
from aftercommit.worker.claiming.cursor import ClaimCursor
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts

logger = logging.getLogger("aftercommit")

LEFT_FOR = timedelta(seconds=10)  # delay of a job that this process cannot run
QUEUE_NAMES_KEPT = timedelta(seconds=1)

ClaimWithFacts = tuple[Claim, "TaskFacts"]


class Fetcher:
    """Claims due jobs queue by queue, beginning with another queue each time.

    There is one statement for each queue, because a statement for several queues cannot read
    the index in order. The first queue changes, so that a full queue does not starve the
    other queues.
    """

    def __init__(
        self,
        store: Store,
        served: Served,
        crashed: CrashedJobs,
        *,
        worker_id: UUID,
        facts_of: Callable[[Claim], "TaskFacts | None"],
    ) -> None:
        self._store = store
        self._served = served
        self._crashed = crashed
        self._worker_id = worker_id
        self._facts_of = facts_of
        self._unknown: set[str] = set()  # paths of tasks that this process does not have
        self._found: list[str] = []  # queue names in the table
        self._found_at = float("-inf")
        self._cursors: defaultdict[str, ClaimCursor] = defaultdict(ClaimCursor)
        self._turn = 0

    def fetch(self, *, limit: int) -> list[ClaimWithFacts]:
        """Claim up to ``limit`` jobs of tasks that this process has; return the facts as well."""
        if self._served.crashed and self._served.only is None:
            return self._fetch_crashed(limit=limit)
        self._turn += 1
        every_queue = self._served.queues is None
        looked_up = every_queue and self._names_are_old()
        if looked_up:
            self._look_up_names()
        claims = self._walk(self._names, limit=limit)
        if not claims and every_queue and not looked_up:
            self._look_up_names()  # a job may be in a new queue
            claims = self._walk(self._names, limit=limit)
        return claims

    def _fetch_crashed(self, *, limit: int) -> list[ClaimWithFacts]:
        """Claim jobs with crashes by their ids; other workers may be faster, or hold locks."""
        claims: list[ClaimWithFacts] = []
        while not claims and (taken := self._crashed.take(limit)):
            for queue, job_ids in taken.items():
                if not is_backing_off(queue):
                    query = self._query(queue, limit=len(job_ids), only=job_ids)
                    claims += self._with_facts(self._store.claim(query))
        if claims:
            self._crashed.claimed()
        return claims

    def _walk(self, queues: Sequence[str], *, limit: int) -> list[ClaimWithFacts]:
        claims: list[ClaimWithFacts] = []
        for number in range(len(queues)):
            if len(claims) >= limit:
                break
            queue = queues[(self._turn + number) % len(queues)]
            if is_backing_off(queue):
                continue
            try:
                claims += self._claim(queue, limit=limit - len(claims))
            except Error:
                if not claims:
                    raise
                break  # the claims on the queues before this one are committed: return them
        return claims

    def _claim(self, queue: str, *, limit: int) -> list[ClaimWithFacts]:
        return self._with_facts(self._claim_in_order(queue, limit=limit))

    def _with_facts(self, claims: Iterable[Claim]) -> list[ClaimWithFacts]:
        known: list[ClaimWithFacts] = []
        unknown: list[Claim] = []
        for claim in claims:
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
        query = self._query(queue, limit=limit, only=self._served.only, after=cursor.position)
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

    def _query(
        self,
        queue: str,
        *,
        limit: int,
        only: Sequence[UUID] | None,
        after: Position | None = None,
    ) -> ClaimQuery:
        return ClaimQuery(
            queue=queue,
            limit=limit,
            worker_id=self._worker_id,
            lease=self._served.options.lease,
            backends=self._served.backends,
            unknown=sorted(self._unknown),
            only=only,
            after=after,
            crashed=self._served.crashed,
        )

    def _leave(self, claims: list[Claim]) -> None:
        """Release jobs that this process cannot run, so that another worker may claim them."""
        for path in sorted({claim.task_path for claim in claims} - self._unknown):
            logger.warning(
                "This worker does not have the task %s or its backend; the jobs stay ready for a "
                "worker that has both. Is the task's module named tasks.py, or listed in "
                "OPTIONS['task_modules']? Does TASKS have the backend?",
                path,
            )
        self._unknown |= {
            claim.task_path for claim in claims if registered(claim.task_path) is None
        }
        # With a delay: a task that is known, on a backend that is not, is not left out of the
        # next claim, and its jobs would be claimed and released without end.
        try:
            released = [(claim, Released(LEFT_FOR)) for claim in claims]
            send_finished(self._store, self._store.finish_many(released))
        except Error:
            logger.warning(
                "Jobs that this worker cannot run could not be released; they are rescued "
                "when their leases end"
            )

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
        for gone in self._cursors.keys() - set(self._found):
            del self._cursors[gone]
