"""Which queues there are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aftercommit.queues.limiting import Limited, limits_in
from aftercommit.queues.named import aliases, configured
from aftercommit.queues.pauses import Paused, paused_in
from aftercommit.store import store_for
from aftercommit.values import QUEUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of a database: in QUEUES of a backend, with jobs, paused, or with a limit."""

    using: str
    name: str
    pause: Paused | None = None
    limit: Limited | None = None


def list(using: str | None = None) -> Sequence[Queue]:
    """Return the queues that are in QUEUES, have jobs that wait, are paused, or have a limit."""
    return [one for alias in aliases(using) for one in _queues_in(alias)]


def _queues_in(alias: str) -> Iterator[Queue]:
    pauses = {one.name: one for one in paused_in(alias) if one.kind == QUEUE}
    limits = {one.name: one for one in limits_in(alias) if one.kind == QUEUE}
    for name in sorted({*configured(alias), *store_for(alias).queues(), *pauses, *limits}):
        yield Queue(using=alias, name=name, pause=pauses.get(name), limit=limits.get(name))
