"""What ``manage.py aftercommit status`` says about one database."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

from aftercommit import groups, jobs, queues, schedules
from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK
from aftercommit.wording import counted, spoken

GROUPS_LOOKED_AT = 10
ENDED = ("succeeded", "failed", "cancelled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Periodic:
    """What is said of a schedule."""

    state: str  # enabled, disabled, late or ended
    next_run: datetime | None
    last_run: datetime | None
    missed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenGroup:
    """What is said of a group that has not ended."""

    id: str
    name: str
    total: int
    done: int
    failed: int
    cancelled: int
    estimate: timedelta | None
    is_cancelled: bool


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
    rates: dict[str, str]  # of queues: how often jobs start
    task_rates: dict[str, str]  # set at run time
    schedules: dict[str, Periodic]
    groups: list[OpenGroup]  # those among the newest that have not ended
    pruned: int  # ended jobs that these workers have deleted in their time
    pruned_at: datetime | None  # when one last looked for such jobs; None: none has yet

    def as_json(self) -> dict[str, Any]:
        """Return all of it as values of JSON; spans in seconds."""
        found: dict[str, Any] = _plain(asdict(self))
        return found


def status_of(using: str) -> Status:
    """Read the numbers of a database."""
    store = store_for(using)
    pauses, limits, rates = store.pauses(), queues.limits(using), queues.rates(using)
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
        rates={one.name: one.rate for one in rates if one.kind == QUEUE},
        task_rates={one.name: one.rate for one in rates if one.kind == TASK},
        schedules={
            one.name: Periodic(
                state=one.state,
                next_run=one.next_run,
                last_run=one.last_run,
                missed=one.missed,
            )
            for one in schedules.find(using)
        },
        groups=[
            OpenGroup(**{one.name: getattr(group, one.name) for one in fields(OpenGroup)})
            for group in groups.find(using=using, most=GROUPS_LOOKED_AT)
            if not group.is_finished
        ],
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
        last = _at(status.pruned_at)
        yield f"  Pruned: {counted(status.pruned, 'job')}, last looked at {last}."
    for kind, found, paused, limits, rates in (
        (QUEUE, status.queues, status.paused, status.limits, status.rates),
        (TASK, status.tasks, status.paused_tasks, status.task_limits, status.task_rates),
    ):
        for name, one in found.items():
            rules = ["paused"] * (name in paused)
            rules += [f"{limits[name]:,} at once"] if name in limits else []
            rules += [rates[name]] if name in rates else []
            marks = f" ({', '.join(rules)})" if rules else ""
            yield f"  {kind} {one_line(name)}{marks}: {_depth(one)}"
    for name, periodic in status.schedules.items():
        yield f"  schedule {one_line(name)}: {_periodic(periodic)}"
    for group in status.groups:
        yield f"  group {one_line(group.name) or group.id}: {_group(group)}"


def _group(one: OpenGroup) -> str:
    failed = f", {one.failed:,} failed" * bool(one.failed)
    left = "" if one.estimate is None else f", about {_span(one.estimate)} left"
    closed = ", is being cancelled" * one.is_cancelled
    return f"{one.done:,} of {one.total:,} done{failed}{closed or left}"


def _periodic(one: Periodic) -> str:
    due = "" if one.next_run is None else f", next run {_at(one.next_run)}"
    last = "" if one.last_run is None else f", last run {_at(one.last_run)}"
    missed = f", {counted(one.missed, 'moment')} missed" * bool(one.missed)
    return f"{one.state}{due}{last}{missed}"


def _at(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


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
    waiting = f", {one.waiting:,}{more} wait for other jobs" * bool(one.waiting)
    held = paused + limited + rated + waiting
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
        case list():
            return [_plain(one) for one in value]
    return value
