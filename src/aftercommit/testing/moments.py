"""When something may be due next: a job, a tick of a schedule, a start that its rate allows."""

from collections.abc import Iterator
from datetime import datetime

from aftercommit.enqueue.rates import rate_of
from aftercommit.models import Job, Rate, State
from aftercommit.options.queues import slots_key
from aftercommit.store import store_for
from aftercommit.worker.config import Served

MOST_KEYS = 1000  # rate keys with jobs that wait


def next_moments(served: Served, *, after: datetime) -> Iterator[datetime]:
    """Yield moments after ``after``, the earliest of each kind among them."""
    ready = Job.objects.using(served.using).filter(state=State.READY, run_after__gt=after)
    yield from ready.order_by("run_after").values_list("run_after", flat=True)[:1]
    tick = store_for(served.using).next_moment()
    if tick is not None and tick[0] > after:
        yield tick[0]
    yield from (moment for moment in _starts(served, after) if moment > after)


def _starts(served: Served, after: datetime) -> Iterator[datetime]:
    lines = store_for(served.using).rate_lines(after="", most=MOST_KEYS)
    rates = {key: rate_of(path) for key, path in lines}
    rates |= {slots_key(queue): rate for queue, rate in served.queue_rates.items()}
    for row in Rate.objects.using(served.using).filter(key__in=rates):
        rate = rates[row.key]
        allowed = after if rate is None else after + rate.wait(after, row.tat)
        yield max(allowed, row.paused_until or after)
