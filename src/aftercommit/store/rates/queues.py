"""T1 of jobs in a queue with a rate: a claim takes as many as may start now, and no more.

Nothing is parked: whoever serves the queue knows when the next may start, and claims nothing of
it before. The key is locked from the look at it until the claims can be seen.
"""

from dataclasses import replace
from datetime import timedelta
from functools import partial

from aftercommit.gcra import Rate
from aftercommit.options.queues import slots_key
from aftercommit.store.limits.queues import ClaimSome, QueueLimits
from aftercommit.values import Claim, ClaimQuery

AGAIN = timedelta(milliseconds=20)  # when somebody else claims from the queue just now


class QueueRates(QueueLimits):
    """Claims jobs, also of queues with a rate."""

    def in_slots(self, query: ClaimQuery, claim: ClaimSome) -> list[Claim] | None:
        """Claim by ``claim`` as many as may start; None if that is none."""
        rate = query.queue_rate
        if rate is None:
            return super().in_slots(query, claim)
        claims, wait = self._after_deadlock(partial(self._claim_in_time, query, rate, claim))
        if wait:
            query.queue_closed(query.queue, wait)
        return claims or None

    def _claim_in_time(
        self, query: ClaimQuery, rate: Rate, claim: ClaimSome
    ) -> tuple[list[Claim], timedelta]:
        """Claim under the queue's key; return also when the next may start, if not now."""
        key = slots_key(query.queue)
        with self._with_keys() as lock:
            if not lock([key]):
                return [], AGAIN
            now = self._keys_now({key: rate})[key]
            begun = query.limit if query.startable is None else query.startable
            most = min(query.limit, begun, now.allowed)
            claims: list[Claim] = []
            if most:
                some = replace(query, limit=most, queue_rate=None)
                claims = super().in_slots(some, claim) or []
            if claims:
                now.started(len(claims), at=max(one.claimed_at for one in claims))
                self._write_keys([(key, now)])
            return claims, now.wait()
