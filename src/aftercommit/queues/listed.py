"""Which queues there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aftercommit.queues.limiting import Limited, limits_in
from aftercommit.queues.named import aliases, configured
from aftercommit.queues.pauses import Paused, paused_in
from aftercommit.queues.rating import Rated, rates_in
from aftercommit.store import store_for
from aftercommit.values import QUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of a database: in QUEUES of a backend, with jobs, paused, limited or rated."""

    using: str
    name: str
    pause: Paused | None = None
    limit: Limited | None = None
    rate: Rated | None = None


def list(using: str | None = None) -> Sequence[Queue]:
    """Return the queues that are in QUEUES, have jobs that wait, or for which something is set.

    That is a pause, a limit, or a rate.
    """
    return [one for alias in aliases(using) for one in _queues_in(alias)]


def _queues_in(alias: str) -> Iterator[Queue]:
    pauses = {one.name: one for one in paused_in(alias) if one.kind == QUEUE}
    limits = {one.name: one for one in limits_in(alias) if one.kind == QUEUE}
    rates = {one.name: one for one in rates_in(alias) if one.kind == QUEUE}
    rules = {*pauses, *limits, *rates}
    for name in sorted({*configured(alias), *store_for(alias).queues(), *rules}):
        yield Queue(
            using=alias,
            name=name,
            pause=pauses.get(name),
            limit=limits.get(name),
            rate=rates.get(name),
        )
