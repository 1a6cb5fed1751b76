"""What a probe, a dashboard or an autoscaler asks: how many wait, how long, how fast."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, overload

from aftercommit.errors import BadSelection
from aftercommit.jobs.asked import database
from aftercommit.options.queues import is_stored_name
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.store.base import Store

MOST = 10_000
SHORTEST = 0.001  # seconds
LATELY = timedelta(minutes=1)
COLUMNS = {"queue": "queue", "task": "task_path"}
BY = (*COLUMNS, "state")


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many jobs of a queue or a task there are."""

    due: int  # could run at once
    ready: int  # these, and those whose time has not come
    running: int
    at_least: bool  # there are so many of the others, or more
    paused: int = 0  # set aside because their task is paused; not among the ready ones
    limited: int = 0  # wait for a slot of their limit; not among the ready ones
    rated: int = 0  # wait for their rate; not among the ready ones
    waiting: int = 0  # wait for other jobs; not among the ready ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """How many jobs are in a state."""

    jobs: int
    is_estimate: bool  # there are too many to count


NOTHING = Depth(due=0, ready=0, running=0, at_least=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long jobs that were claimed in the last minute had been due before."""

    median: timedelta
    p95: timedelta
    longest: timedelta
    jobs: int  # in the sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How many jobs have ended lately, for each second."""

    ended: float  # in whatever state
    failed: float
    over: timedelta  # how far it looks back


@overload
def counts(
    *, by: Literal["queue", "task"] = "queue", using: str | None = None, most: int = MOST
) -> dict[str, Depth]: ...


@overload
def counts(
    *, by: Literal["state"], using: str | None = None, most: int = MOST
) -> dict[str, Number]: ...


def counts(
    *, by: str = "queue", using: str | None = None, most: int = MOST
) -> dict[str, Depth] | dict[str, Number]:
    """Return the depth of each queue or task with jobs that wait or run, or of each state.

    No count goes beyond ``most`` for each queue and priority; by task, only the first ``most``
    jobs that wait are looked at. What is beyond it is at least so much, or, by state, an
    estimate. A larger ``most`` costs more time.
    """
    if by not in BY:
        raise BadSelection("by", f"one of {', '.join(BY)}", by)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise BadSelection("most", "a whole number from 1", most)
    store = store_for(database(using))
    if by == "state":
        return {
            state: Number(jobs=one.jobs, is_estimate=one.is_estimate)
            for state, one in store.states(most=most).items()
        }
    return _depths(store, by, most)


def oldest_due_age(*, queue: str | None = None, using: str | None = None) -> timedelta | None:
    """Return for how long the oldest due job has been waiting; None if none is due."""
    if queue is not None and not is_stored_name(queue):
        raise BadSelection("queue", "the name of a queue", queue)
    return store_for(database(using)).oldest_due_age(queue)


def latency(*, using: str | None = None) -> Latency | None:
    """Return how long jobs have been due before they were claimed; None if none was lately.

    From a sample: the jobs that are running, and among the 1,000 that were enqueued last those
    that were claimed in the last minute. While a long queue is worked off, see
    ``oldest_due_age`` for how long those wait that were not claimed yet.
    """
    waits = store_for(database(using)).recent_waits(within=LATELY)
    if not waits:
        return None
    return Latency(
        median=waits[len(waits) // 2],
        p95=waits[len(waits) * 95 // 100],
        longest=waits[-1],
        jobs=len(waits),
    )


def throughput(*, using: str | None = None) -> Throughput:
    """Return how many jobs have ended for each second of the last minute, or of less.

    It is read from the rows where the latest ends must be: before the first due job of each
    of 20 queues, and the last of the table, 1,000 of each. Ends elsewhere are missed, such as
    those of jobs that were enqueued long ago for a moment of today.
    """
    ends, over = store_for(database(using)).recent_ends(within=LATELY)
    seconds = max(over.total_seconds(), SHORTEST)
    failed = sum(one.state == "failed" for one in ends)
    return Throughput(ended=len(ends) / seconds, failed=failed / seconds, over=over)


def _depths(store: "Store", by: str, most: int) -> dict[str, Depth]:
    waiting = _by_queue(store, most) if by == "queue" else _by_task(store, most)
    running = store.running_by(COLUMNS[by])
    held_back = store.held_back(COLUMNS[by], most=most)
    there_are_more = any(sum(some.values()) >= most for some in held_back)
    found = {}
    for name in sorted({*waiting, *running}.union(*held_back)):
        known = waiting.get(name, NOTHING)
        held = any(name in some for some in held_back)
        found[name] = replace(
            known,
            running=running.get(name, 0),
            paused=held_back.paused.get(name, 0),
            limited=held_back.limited.get(name, 0),
            rated=held_back.rated.get(name, 0),
            waiting=held_back.waiting.get(name, 0),
            at_least=known.at_least or (held and there_are_more),
        )
    return found


def _by_queue(store: "Store", most: int) -> dict[str, Depth]:
    found: dict[str, Depth] = {}
    for one in store.waiting(most=most):
        known = found.get(one.group.queue)
        found[one.group.queue] = Depth(
            due=one.due + (known.due if known else 0),
            ready=one.ready + (known.ready if known else 0),
            running=0,
            at_least=one.ready == most or bool(known and known.at_least),
        )
    return found


def _by_task(store: "Store", most: int) -> dict[str, Depth]:
    rows = store.waiting_by_task(most=most)
    at_least = sum(one.ready for one in rows) == most
    return {
        one.task_path: Depth(due=one.due, ready=one.ready, running=0, at_least=at_least)
        for one in rows
    }
