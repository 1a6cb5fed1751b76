"""What ``manage.py aftercommit status`` says about one database."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from aftercommit import jobs, queues
from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK
from aftercommit.wording import counted, spoken

ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The numbers of one database."""

    database: str
    workers: int  # processes that were alive a moment ago
    oldest: timedelta | None
    latency: jobs.Latency | None
    throughput: jobs.Throughput
    states: dict[str, jobs.Number]
    queues: dict[str, jobs.Depth]
    tasks: dict[str, jobs.Depth]
    paused: list[str]  # queues
    paused_tasks: list[str]
    limits: dict[str, int]  # of queues: jobs at once
    task_limits: dict[str, int]  # set at run time
    pruned: int  # ended jobs that these workers have deleted in their time
    pruned_at: datetime | None  # when one last looked for such jobs; None: none has yet

    def as_json(self) -> dict[str, Any]:
        """Return all of it as values of JSON; spans in seconds."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def status_of(using: str) -> Status:
    """Read the numbers of a database."""
    store = store_for(using)
    pauses, limits = store.pauses(), queues.limits(using)
    pruned, pruned_at = store.workers.last_pruned()
    return Status(
        database=using,
        workers=store.workers.count_seen(within=SEEN_WITHIN),
        oldest=jobs.oldest_due_age(using=using),
        latency=jobs.latency(using=using),
        throughput=jobs.throughput(using=using),
        states=jobs.counts(by="state", using=using),
        queues=jobs.counts(by="queue", using=using),
        tasks=jobs.counts(by="task", using=using),
        paused=sorted(one.name for one in pauses if one.kind == QUEUE),
        paused_tasks=sorted(one.name for one in pauses if one.kind == TASK),
        limits={one.name: one.limit for one in limits if one.kind == QUEUE},
        task_limits={one.name: one.limit for one in limits if one.kind == TASK},
        pruned=pruned,
        pruned_at=pruned_at,
    )


def lines(status: Status) -> Iterator[str]:
    """Yield the same for people."""
    depths = status.queues.values()
    due, ready = (_number(sum(one), status.queues) for one in _columns(depths))
    running = sum(one.running for one in depths)
    workers = counted(status.workers, "worker process", "worker processes")
    yield f"{status.database}: {workers}; {due} due, {ready} ready, {running:,} running."
    waits = (
        "none is due" if status.oldest is None else f"the oldest waits for {_span(status.oldest)}"
    )
    rate = status.throughput
    yield (
        f"  {rate.ended:.1f} jobs/s ended in the last {_span(rate.over)}, {rate.failed:.1f}/s "
        f"failed; {waits}{_latency(status.latency)}."
    )
    if any(status.states[one].jobs for one in ENDED):
        yield f"  Ended: {', '.join(_ended(one, status.states[one]) for one in ENDED)}."
    if status.pruned_at is not None:
        at = f"{status.pruned_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        yield f"  Pruned: {counted(status.pruned, 'job')}, last looked at {at}."
    for kind, found, paused, limits in (
        (QUEUE, status.queues, status.paused, status.limits),
        (TASK, status.tasks, status.paused_tasks, status.task_limits),
    ):
        for name, one in found.items():
            rules = ["paused"] * (name in paused)
            rules += [f"{limits[name]:,} at once"] if name in limits else []
            marks = f" ({', '.join(rules)})" if rules else ""
            yield f"  {kind} {one_line(name)}{marks}: {_depth(one)}"


def _ended(state: str, found: jobs.Number) -> str:
    return f"{'about ' * found.is_estimate}{found.jobs:,} {state}"


def _columns(depths: Any) -> tuple[list[int], list[int]]:
    return [one.due for one in depths], [one.ready for one in depths]


def _number(value: int, found: dict[str, jobs.Depth]) -> str:
    return f"{value:,}{'+' * any(one.at_least for one in found.values())}"


def _depth(one: jobs.Depth) -> str:
    more = "+" * one.at_least
    due = f"{one.due:,}{more * bool(one.due)}"
    paused = f", {one.paused:,}{more} set aside while their task is paused" * bool(one.paused)
    limited = f", {one.limited:,}{more} wait for a limit" * bool(one.limited)
    rated = f", {one.rated:,}{more} wait for their rate" * bool(one.rated)
    held = paused + limited + rated
    return f"{due} due, {one.ready:,}{more} ready, {one.running:,} running{held}"


def _latency(found: jobs.Latency | None) -> str:
    if found is None:
        return ""
    return f"; a start took {_span(found.median)}, {_span(found.p95)} at 95 %"


def _span(span: timedelta) -> str:
    return spoken(span) if span >= timedelta(milliseconds=1) else "0 s"


def _plain(value: Any) -> Any:
    match value:
        case timedelta():
            return value.total_seconds()
        case datetime():
            return value.isoformat()
        case dict():
            return {name: _plain(one) for name, one in value.items()}
    return value
