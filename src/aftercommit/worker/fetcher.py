"""Which queues are asked for jobs, and in what order."""

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import Error

from aftercommit.brokers import QUEUE_PREFIX
from aftercommit.pauses import is_paused
from aftercommit.store.base import Store
from aftercommit.tasks import registered
from aftercommit.values import Claim, ClaimQuery, Position, Released
from aftercommit.worker.floor import Floor

logger = logging.getLogger("aftercommit")

LEFT_FOR = timedelta(seconds=10)  # a job that this process cannot run
QUEUE_NAMES_KEPT = timedelta(seconds=1)


class Fetcher:
    """Claims due jobs queue by queue, beginning with another queue each time.

    One statement for each queue, because only so it walks the index; in turn, so that a
    full queue does not starve the others.
    """

    def __init__(
        self,
        store: Store,
        *,
        queues: Sequence[str] | None,
        backends: Sequence[str],
        worker_id: UUID,
        lease: timedelta,
        knows: Callable[[Claim], bool],
        relays: bool = False,
    ) -> None:
        self._store = store
        self._queues = queues  # None: whatever there is
        self._backends = backends  # empty: all
        self._worker_id = worker_id
        self._lease = lease
        self._knows = knows
        self._relays = relays  # messages for brokers as well, if queues is None
        self._unknown: set[str] = set()
        self._found: list[str] = []  # queue names in the table
        self._found_at = float("-inf")
        self._floors: defaultdict[str, Floor] = defaultdict(Floor)
        self._turn = 0

    def fetch(self, *, limit: int) -> list[Claim]:
        """Claim up to ``limit`` jobs of tasks that this process knows."""
        self._turn += 1
        looked_up = self._queues is None and self._names_are_old()
        if looked_up:
            self._look_up_names()
        claims = self._walk(self._names, limit=limit)
        if not claims and self._queues is None and not looked_up:
            self._look_up_names()  # perhaps a new queue
            claims = self._walk(self._names, limit=limit)
        return claims

    def _walk(self, queues: Sequence[str], *, limit: int) -> list[Claim]:
        claims: list[Claim] = []
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

    def _claim(self, queue: str, *, limit: int) -> list[Claim]:
        claims = self._claim_in_order(queue, limit=limit)
        examples = {(claim.task_path, claim.backend): claim for claim in claims}
        unknown = {name for name, claim in examples.items() if not self._knows(claim)}
        if not unknown:
            return claims
        strange = [claim for claim in claims if (claim.task_path, claim.backend) in unknown]
        self._leave(strange)
        return [claim for claim in claims if (claim.task_path, claim.backend) not in unknown]

    def _claim_in_order(self, queue: str, *, limit: int) -> list[Claim]:
        floor = self._floors[queue]
        claims: list[Claim] = []
        if (after := floor.place) is not None:
            claims = self._claim_of(queue, limit=limit, after=after)
        if len(claims) < limit:
            began = time.monotonic()
            try:
                claims += self._claim_of(queue, limit=limit - len(claims))
            except Error:
                if not claims:
                    raise
            floor.looked_from_front(seconds=time.monotonic() - began)
        floor.claimed(claims, full=len(claims) == limit)
        return claims

    def _claim_of(self, queue: str, *, limit: int, after: Position | None = None) -> list[Claim]:
        return self._store.claim(
            ClaimQuery(
                queue=queue,
                limit=limit,
                worker_id=self._worker_id,
                lease=self._lease,
                backends=self._backends,
                unknown=sorted(self._unknown),
                after=after,
            )
        )

    def _leave(self, strange: list[Claim]) -> None:
        """Give back jobs that this process cannot run, for one that can."""
        for path in sorted({claim.task_path for claim in strange} - self._unknown):
            logger.warning(
                "%s is not known to this worker, or its backend is not; its jobs stay ready for "
                "one that knows them. Is its module named tasks.py, or listed in "
                "OPTIONS['task_modules']? Does TASKS have its backend?",
                path,
            )
        self._unknown |= {
            claim.task_path for claim in strange if registered(claim.task_path) is None
        }
        # With a delay: a task that is known, on a backend that is not, is found again.
        try:
            self._store.finish_many([(claim, Released(LEFT_FOR)) for claim in strange])
        except Error:
            logger.warning("Jobs that cannot run here were not given back; their lease will")

    @property
    def _names(self) -> Sequence[str]:
        return self._found if self._queues is None else self._queues

    def _names_are_old(self) -> bool:
        return time.monotonic() - self._found_at > QUEUE_NAMES_KEPT.total_seconds()

    def _look_up_names(self) -> None:
        found = self._store.queues()
        self._found = [one for one in found if self._relays or not one.startswith(QUEUE_PREFIX)]
        self._found_at = time.monotonic()
