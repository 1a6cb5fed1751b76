"""What workers have counted: how runs ended, and how long they waited and ran."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, overload

from aftercommit.errors import BadSelection
from aftercommit.jobs import asked
from aftercommit.options.queues import is_stored_name
from aftercommit.store import store_for
from aftercommit.store.statistics import HOURS_KEPT, MINUTES_KEPT, Kept, Span
from aftercommit.tallies import (
    CANCELLED,
    CLAIMED,
    ENDS,
    FAILED,
    OTHER,
    RELEASED,
    RESCUED,
    RETRIED,
    SUCCEEDED,
    Histogram,
    Key,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
# The first step begins before that, and must be there as a whole.
LONGEST_BY_MINUTE, LONGEST = MINUTES_KEPT - HOUR, HOURS_KEPT - DAY
COLUMNS = {"task": "task_path", "queue": "queue"}
BY = tuple(COLUMNS)
OF_RUNS = (*ENDS, RETRIED, RELEASED, RESCUED, CLAIMED)
By = Literal["task", "queue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What runs of a task, a queue or all have come to, in a span of time.

    A job that has ended without a run is among the ends, and in no histogram.
    """

    since: datetime | None = None  # None: all time, since the first migration with statistics
    until: datetime
    succeeded: int = 0
    failed: int = 0  # for good
    cancelled: int = 0
    retried: int = 0  # runs that failed, and whose job was to be tried again
    released: int = 0  # runs that do not count: a shutdown, a snooze, a conflict
    rescued: int = 0  # runs that were taken from a dead or silent worker
    claimed: int = 0  # jobs; counted by queue, so it is 0 for a task
    waits: Histogram = field(default_factory=Histogram)  # how long jobs were due before a run
    runs: Histogram = field(default_factory=Histogram)  # how long bodies ran, however they ended
    # Whether runs of this task or queue may be missing: some are counted as "(other)".
    partial: bool = False

    @property
    def ended(self) -> int:
        """How many jobs have ended."""
        return self.succeeded + self.failed + self.cancelled

    @property
    def failure_share(self) -> float | None:
        """The share of the ended jobs that has failed for good, 0 to 1; None if none ended."""
        return self.failed / self.ended if self.ended else None

    @property
    def per_second(self) -> float | None:
        """How many jobs have ended for each second of the span; None for all time."""
        if self.since is None:
            return None
        return self.ended / max((self.until - self.since).total_seconds(), 1.0)


@overload
def statistics(
    *,
    by: None = None,
    over: timedelta | None = HOUR,
    task: Any = None,
    queue: str | None = None,
    using: str | None = None,
) -> Statistics: ...


@overload
def statistics(
    *,
    by: By,
    over: timedelta | None = HOUR,
    task: Any = None,
    queue: str | None = None,
    using: str | None = None,
) -> dict[str, Statistics]: ...


def statistics(
    *,
    by: By | None = None,
    over: timedelta | None = HOUR,
    task: Any = None,
    queue: str | None = None,
    using: str | None = None,
) -> Statistics | dict[str, Statistics]:
    """Return what has ended lately, as workers have counted it: all, or by task or queue.

    Each worker process writes what it has counted with its heartbeat, so the latest ends are up
    to ten seconds late (``OPTIONS["heartbeat"]``), and a process that is killed takes so much
    with it. One query, whose cost depends on the number of tasks and queues, not of jobs.

    ``over``: a minute to 7 days, from the beginning of its first minute, or for more than two
    hours of its first hour; None: all time. ``task``: a task or one of its names.
    ``queue``: its name. Tasks and queues beyond those that a process counts by name (200 and
    100) are ``"(other)"``; of all time, so are those beyond 5,000 combinations with outcomes.
    What is returned of a task or a queue is ``partial`` then. ``using``: the database alias, by
    default where the router writes jobs.

    Raises ``BadSelection`` for what cannot be meant.
    """
    if by is not None and by not in BY:
        raise BadSelection("by", f"one of {', '.join(BY)}, or None", by)
    span = Span.TOTAL if over is None else _span(over)
    now, rows, partial = _read(span, over, task, queue, using)
    since = None if over is None else _begin(now - over, _step(span))
    if by is None:
        return _sum(rows, since=since, until=now, partial=partial)
    return {
        name: _sum(some, since=since, until=now, partial=partial or unnamed)
        for name, some, unnamed in _grouped(rows, by)
    }


@overload
def series(
    *,
    by: None = None,
    over: timedelta = HOUR,
    step: timedelta = MINUTE,
    task: Any = None,
    queue: str | None = None,
    times: bool = True,
    using: str | None = None,
) -> list[Statistics]: ...


@overload
def series(
    *,
    by: By,
    over: timedelta = HOUR,
    step: timedelta = MINUTE,
    task: Any = None,
    queue: str | None = None,
    times: bool = True,
    using: str | None = None,
) -> dict[str, list[Statistics]]: ...


def series(
    *,
    by: By | None = None,
    over: timedelta = HOUR,
    step: timedelta = MINUTE,
    task: Any = None,
    queue: str | None = None,
    times: bool = True,
    using: str | None = None,
) -> list[Statistics] | dict[str, list[Statistics]]:
    """Return the same for each ``step`` of the time, the oldest first: the points of a chart.

    A step without any end is there as well; the last step is the present one, which is not over.
    ``step``: whole minutes up to an hour, or for more than two hours whole hours up to a day.
    Steps begin at whole ones of UTC: of a day at midnight, of ten minutes at
    :00, :10 and so on. ``times``: False leaves ``waits`` and ``runs`` empty, and costs far less
    where there are many tasks and queues. For the other parameters and
    what is raised see ``statistics``.
    """
    if by is not None and by not in BY:
        raise BadSelection("by", f"one of {', '.join(BY)}, or None", by)
    span = _span(over)
    _check_step(step, over)
    if times or task is not None or queue is not None:
        now, rows, partial = _read(span, over + step, task, queue, using)
    else:
        store, partial = store_for(asked.database(using)), False
        now, rows = store.ends(span, over=over + step, column=None if by is None else COLUMNS[by])
    first = _begin(now - over, step)
    moments = [first + step * number for number in range((now - first) // step + 1)]
    if by is None:
        return _points(rows, moments, step, now, partial=partial)
    return {
        name: _points(some, moments, step, now, partial=partial or unnamed)
        for name, some, unnamed in _grouped(rows, by)
    }


def merged(points: Sequence[Statistics]) -> Statistics:
    """Return what some steps that follow each other come to; there must be one."""
    numbers = {name: sum(getattr(one, name) for one in points) for name in OF_RUNS}
    return Statistics(
        since=points[0].since,
        until=points[-1].until,
        **numbers,
        waits=Histogram.merged(one.waits for one in points),
        runs=Histogram.merged(one.runs for one in points),
        partial=any(one.partial for one in points),
    )


def totals(*, using: str | None = None) -> dict[tuple[str, str], Statistics]:
    """Return what was counted in all time, by task and queue.

    No number is ever lower than before, so these are counters as monitors want them. ``claimed``
    is that of the queue, under the task ``""``. The table has 5,000 pairs with their outcomes by
    name; the runs of further ones are in the pair ``("(other)", "(other)")``.
    """
    now, rows, _partial = _read(Span.TOTAL, None, None, None, using)
    grouped: dict[tuple[str, str], list[Kept]] = {}
    for row in rows:
        grouped.setdefault((row.key.task_path, row.key.queue), []).append(row)
    return {pair: _sum(grouped[pair], since=None, until=now) for pair in sorted(grouped)}


def _read(
    span: str, over: timedelta | None, task: Any, queue: str | None, using: str | None
) -> tuple[datetime, list[Kept], bool]:
    """Return also whether more may belong to this task or queue, which is counted as others."""
    if queue is not None and not is_stored_name(queue):
        raise BadSelection("queue", "the name of a queue", queue)
    paths = None if task is None else asked.task_paths(task)
    queues = None if queue is None else [queue]
    now, rows = store_for(asked.database(using)).statistics(
        span,
        over=over,
        task_paths=None if paths is None else [*paths, OTHER],
        queues=None if queues is None else [*queues, OTHER],
    )
    found = [
        row
        for row in rows
        if (paths is None or row.key.task_path in paths)
        and (queues is None or row.key.queue in queues)
    ]
    return now, found, len(found) < len(rows)


def _span(over: object) -> str:
    if not isinstance(over, timedelta) or not MINUTE <= over <= LONGEST:
        what = f"a timedelta from a minute to {LONGEST.days} days"
        raise BadSelection("over", what, over)
    return Span.MINUTE if over <= LONGEST_BY_MINUTE else Span.HOUR


def _check_step(step: object, over: timedelta) -> None:
    unit, most = (MINUTE, HOUR) if over <= LONGEST_BY_MINUTE else (HOUR, DAY)
    if not isinstance(step, timedelta) or not unit <= step <= most or step % unit:
        what = "whole minutes up to an hour, or for more than two hours whole hours up to a day"
        raise BadSelection("step", what, step)


def _step(span: str) -> timedelta:
    return HOUR if span == Span.HOUR else MINUTE


def _begin(moment: datetime, step: timedelta) -> datetime:
    """Return the beginning of the step that a moment is in."""
    midnight = datetime(1970, 1, 1, tzinfo=UTC)
    return midnight + (moment - midnight) // step * step


def _grouped(rows: Iterable[Kept], by: str) -> list[tuple[str, list[Kept], bool]]:
    """Return the rows by their names, and whether more may belong to a name."""
    grouped: dict[str, list[Kept]] = {}
    for row in rows:
        name = row.key.task_path if by == "task" else row.key.queue
        if name:  # else jobs that were claimed, of which the task was not counted
            grouped.setdefault(name, []).append(row)
    return [(name, grouped[name], OTHER in grouped and name != OTHER) for name in sorted(grouped)]


def _points(
    rows: Sequence[Kept],
    moments: Sequence[datetime],
    step: timedelta,
    now: datetime,
    *,
    partial: bool,
) -> list[Statistics]:
    found: dict[datetime, list[Kept]] = {moment: [] for moment in moments}
    for row in rows:
        # A flush may have been written after the clock was read.
        moment = min(_begin(row.began_at, step), moments[-1])
        if moment in found:
            found[moment].append(row)
    return [
        _sum(some, since=moment, until=min(moment + step, now), partial=partial)
        for moment, some in found.items()
    ]


def _sum(
    rows: Iterable[Kept], *, since: datetime | None, until: datetime, partial: bool = False
) -> Statistics:
    jobs = dict.fromkeys(OF_RUNS, 0)
    waits, runs = [], []
    for row in rows:
        key: Key = row.key
        if key.outcome in jobs:
            jobs[key.outcome] += row.tally.jobs
            waits.append(row.tally.waits)
            runs.append(row.tally.runs)
    return Statistics(
        since=since,
        until=until,
        succeeded=jobs[SUCCEEDED],
        failed=jobs[FAILED],
        cancelled=jobs[CANCELLED],
        retried=jobs[RETRIED],
        released=jobs[RELEASED],
        rescued=jobs[RESCUED],
        claimed=jobs[CLAIMED],
        waits=Histogram.of(waits),
        runs=Histogram.of(runs),
        partial=partial,
    )
