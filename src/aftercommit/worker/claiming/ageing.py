"""Lets jobs of low priority start that have waited long, beside more urgent ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import NamedTuple

from aftercommit.enqueue.configured import our_backends
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Group, Head
from aftercommit.worker.claiming.turns import TurnsOfQueues


class Aged(NamedTuple):
    """Jobs of a group that have waited long enough to come before more urgent groups."""

    backend: str
    priority: int
    until: datetime  # those that were due by then


class Ageing:
    """Counts each job one priority higher for each span that it has been due.

    Within a group the first job has waited longest, so the first job says whether there are any
    that come before another group, and a moment says which. Without the option it costs nothing.
    """

    def __init__(self, store: Store, backends: Sequence[str]) -> None:
        self._store = store
        self._spans = _spans(backends)
        self._aged: dict[str, list[Aged]] = {}
        self._turns = TurnsOfQueues()

    def due_groups(self) -> list[Group]:
        """Return the groups with due jobs, and remember for how long their first jobs wait."""
        if not self._spans:
            return self._store.due_groups()
        of_queue: dict[str, list[Head]] = {}
        heads = self._store.due_heads()
        for head in heads:
            of_queue.setdefault(head.group.queue, []).append(head)
        self._aged = {
            queue: found for queue, some in of_queue.items() if (found := aged(some, self._spans))
        }
        return [head.group for head in heads]

    def claim(
        self, query: ClaimQuery, limit: int, ask: Callable[[ClaimQuery], list[Claim]]
    ) -> list[Claim]:
        """Claim what has waited long enough in a queue by the last look: half of it at most.

        So more urgent jobs go on beside an old backlog. Of one job, every other time.
        """
        claims: list[Claim] = []
        if not (found := self._aged.get(query.queue)):
            return claims
        most = (limit + self._turns.next(query.queue) % 2) // 2
        for one in found:
            if (left := most - len(claims)) <= 0:
                break
            groups = [(one.backend, one.priority)]
            claims += ask(replace(query, limit=left, groups=groups, until=one.until))
        return claims


def aged(heads: Sequence[Head], spans: Mapping[str, timedelta]) -> list[Aged]:
    """Return which jobs of one queue come before more urgent ones, those that lead first.

    A job comes before groups with a higher priority once it counts as much as the first job of
    each of them, which may have waited as well.
    """

    def level(head: Head) -> int:
        span = spans.get(head.group.backend)
        return head.group.priority + (head.waited // span if span else 0)

    found = []
    for head in heads:
        span, priority = spans.get(head.group.backend), head.group.priority
        urgent = [level(one) for one in heads if one.group.priority > priority]
        if span and urgent and level(head) >= max(urgent):
            needed = max(urgent) - priority
            until = head.now - span * needed
            found.append((level(head), Aged(head.group.backend, priority, until)))
    return [one for _level, one in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _spans(backends: Sequence[str]) -> dict[str, timedelta]:
    ours = [one for one in our_backends() if not backends or one.alias in backends]
    return {one.alias: span for one in ours if (span := one.config.age_priority)}
