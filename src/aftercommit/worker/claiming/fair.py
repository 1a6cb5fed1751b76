"""Claims from fair lines, beside the claims of what waits in no line."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

from aftercommit.enqueue.fair import kinds_of_fair_tasks
from aftercommit.store.base import Store
from aftercommit.store.fair.reading import Part
from aftercommit.values import Claim, ClaimQuery
from aftercommit.worker.claiming.turns import TurnsOfQueues
from aftercommit.worker.leases import Leases

# Without fair tasks: their modules may be imported only when a job of theirs is claimed.
EACH_SECOND = timedelta(seconds=1)
IF_TOLD = timedelta(minutes=1)  # the same, if the database tells of new jobs
SHARE = 0.1  # of the time, in which lines are asked whose limits and rates have no room
LONGEST_PAUSE = timedelta(seconds=2)  # of them

Ask = Callable[[int], list[Claim]]  # for so many jobs at most


class FairLines:
    """The queues of one database alias with jobs that take turns.

    Where jobs wait in lines and others beside them, each of the two gets half of a claim, and
    what the other one leaves. A process that has declared no fair task looks for lines once a
    second, or when it is told of new jobs: another process may have declared one.
    """

    def __init__(
        self,
        store: Store,
        leases: Leases,
        backends: Sequence[str],
        put_off: Callable[[Exception, Sequence[Claim]], None],
    ) -> None:
        self._store = store
        self._leases = leases
        self._put_off = put_off  # an error, if there are claims: these are committed
        self._backends = backends
        self._lines: dict[str, list[Part]] = {}  # by queue, as the last look has found them
        self._after: defaultdict[Part, str] = defaultdict(str)
        self._halves, self._firsts = TurnsOfQueues(), TurnsOfQueues()
        self._closed_until: dict[Part, float] = {}  # unless there is nothing else to claim
        self._look_again_at = float("-inf")
        self.is_told: Callable[[], bool] = lambda: False  # whether ``told`` is called in time
        self._declared: frozenset[bool] = frozenset()  # of fair tasks: whether they are gated

    @property
    def active(self) -> bool:
        """Whether there may be jobs that take turns."""
        return bool(self._declared or self._lines)

    def told(self) -> None:
        """Note, from any thread, that there are new jobs, perhaps in lines."""
        self._look_again_at = float("-inf")

    def look(self, serves: Callable[[str, str], bool]) -> Sequence[str]:
        """Return the queues with jobs in lines."""
        self._declared = kinds_of_fair_tasks()
        if not self.active and time.monotonic() < self._look_again_at:
            return ()
        pause = IF_TOLD if self.is_told() else EACH_SECOND
        self._look_again_at = time.monotonic() + pause.total_seconds()
        self._lines = {}
        for part in self._store.fair_parts():
            if serves(part.backend, part.queue):
                self._lines.setdefault(part.queue, []).append(part)
        return sorted(self._lines)

    def claim(self, query: ClaimQuery, *, others: Ask | None) -> list[Claim]:
        """Claim from a queue: ``others`` is None if nothing but lines is known there.

        The lines come first, with half of the jobs; of an odd number they get the larger half
        every other turn.
        """
        claims: list[Claim] = []
        parts: list[Part] | None = None
        if query.queue in self._lines:
            most = query.limit
            if others:
                most = (most + self._halves.next(query.queue) % 2) // 2
            if most:  # else another part would always begin in the turns of the others
                parts = self._parts(query.queue)
                self._add(claims, parts, query, most=most, all_of_them=False)
        if others and len(claims) < query.limit:
            try:
                claims += others(query.limit - len(claims))
            except Exception as error:
                self._put_off(error, claims)
        if len(claims) < query.limit:
            parts = self._parts(query.queue) if parts is None else parts
            self._add(claims, parts, query, most=query.limit, all_of_them=not claims)
        return claims

    def _parts(self, queue: str) -> list[Part]:
        """Return the parts to ask, beginning with another one each turn."""
        parts = self._lines.get(queue)
        if parts is None:  # a plain claim may just move some into their lines
            kinds = sorted(self._declared)
            parts = [Part(one, queue, gated) for one in self._backends for gated in kinds]
        first = self._firsts.next(queue) % len(parts) if parts else 0
        return [*parts[first:], *parts[:first]]

    def _add(
        self,
        claims: list[Claim],
        parts: list[Part],
        query: ClaimQuery,
        *,
        most: int,
        all_of_them: bool,
    ) -> None:
        """Add claims until there are ``most``, about the same number from each part.

        Parts that gave nothing are not asked again. If not ``all_of_them``, those are left out
        whose limits and rates had no room a moment ago: a look at a thousand keys, with each
        claim of what waits beside them, would take longer than the claims.
        """
        asked = [part for part in parts if all_of_them or not self._is_closed(part)]
        for number, part in enumerate(asked):
            limit = math.ceil((most - len(claims)) / (len(asked) - number))
            if limit <= 0:
                return
            try:
                found = self._ask(replace(query, limit=limit), part)
            except Exception as error:
                self._put_off(error, claims)
                return
            claims += found
            if not found:
                parts.remove(part)

    def _is_closed(self, part: Part) -> bool:
        return time.monotonic() < self._closed_until.get(part, float("-inf"))

    def _ask(self, query: ClaimQuery, part: Part) -> list[Claim]:
        ended = self._leases.ended_together
        query = replace(query, ended=ended)
        began = time.monotonic()
        found = self._store.claim_in_turn(query, part, after=self._after[part])
        self._after[part] = found.after
        self._closed_until.pop(part, None)
        if part.gated and not found.claims:
            now = time.monotonic()
            pause = min((now - began) / SHARE, LONGEST_PAUSE.total_seconds())
            self._closed_until[part] = now + pause
        self._leases.opened(found.claims)
        self._leases.deleted(ended)
        return found.claims
