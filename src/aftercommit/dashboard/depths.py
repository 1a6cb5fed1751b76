"""Queues with their depths, the age of the oldest due job, pauses and limits."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils.formats import number_format
from django.utils.http import urlencode

from aftercommit import jobs, queues
from aftercommit.dashboard.times import span
from aftercommit.dashboard.visit import Visit
from aftercommit.jobs import Depth
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.printable import one_line

NOTHING = Depth(due=0, ready=0, running=0, at_least=False)


@dataclass(frozen=True, slots=True)
class QueueLine:
    """A queue as a page shows it."""

    name: str  # as it is stored, for forms
    shown: str
    due: str
    ready: str
    running: str
    held: str  # wait for a limit, a rate, other jobs, or the end of a pause
    oldest: str
    age: timedelta
    pause: queues.Paused | None
    limit: queues.Limited | None
    url: str
    is_relay: bool


def queue_lines(visit: Visit) -> list[QueueLine]:
    """Return all queues of a database by name, those of brokers last."""
    depths = jobs.counts(by="queue", using=visit.using)
    ages: dict[str, timedelta] = {}
    for one in visit.store.heads():
        if one.age is not None:
            ages[one.group.queue] = max(one.age, ages.get(one.group.queue, timedelta(0)))
    known = {one.name: one for one in queues.list(visit.using)}
    names = sorted({*known, *depths}, key=lambda name: (name.startswith(QUEUE_PREFIX), name))
    return [_line(visit, name, depths, ages, known.get(name)) for name in names]


def _line(
    visit: Visit,
    name: str,
    depths: dict[str, Depth],
    ages: dict[str, timedelta],
    queue: queues.Queue | None,
) -> QueueLine:
    depth = depths.get(name, NOTHING)
    held = depth.paused + depth.limited + depth.rated + depth.waiting
    age = ages.get(name)
    return QueueLine(
        name=name,
        shown=one_line(name),
        due=figure(depth.due, more=depth.at_least),
        ready=figure(depth.ready, more=depth.at_least),
        running=figure(depth.running),
        held=figure(held, more=depth.at_least),
        oldest=span(age),
        age=age or timedelta(0),
        pause=None if queue is None else queue.pause,
        limit=None if queue is None else queue.limit,
        url=f"{visit.url('jobs')}?{urlencode({'state': 'ready', 'queue': name})}",
        is_relay=name.startswith(QUEUE_PREFIX),
    )


def figure(value: int, *, more: bool = False) -> str:
    """Return a number; with a plus where it is at least so many."""
    return f"{number_format(value, force_grouping=True)}{'+' * (more and value > 0)}"
