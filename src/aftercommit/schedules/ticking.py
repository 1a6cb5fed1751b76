"""Makes the jobs of moments that are due: tick and job in one transaction, once, whoever asks."""

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError, transaction

from aftercommit import events
from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.lookup import known_task
from aftercommit.errors import ConfigurationError
from aftercommit.models import Schedule
from aftercommit.printable import one_line
from aftercommit.safe_log import log_error, log_line
from aftercommit.schedules.spec import Spec
from aftercommit.store.base import Store
from aftercommit.stored import read_arguments
from aftercommit.timing import SKIP, Plan
from aftercommit.transient_errors import is_lock_timeout
from aftercommit.values import NO_TIME, NewJob, Scheduled

MOST_SCHEDULES = 20  # that one look decides about
LONGEST_PROBLEM = 1000
Lost = (OperationalError, InterfaceError)  # the database, and not this schedule
BUSY = (
    "The schedule %r is due, and an open transaction has what its job needs, the key of a unique "
    "task for example. It is tried again in a few seconds"
)
STILL_RUNS = "the job before has not ended, and overlap is 'skip'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticked:
    """A moment that was decided."""

    schedule: str
    moment: datetime
    job_id: UUID | None
    late: timedelta
    missed: int = 0  # earlier moments that were left out
    reason: str = ""  # why there is no job


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What became of one schedule that was due."""

    schedule: str
    ticked: Sequence[Ticked] = ()
    has_failed: bool = False  # its moment could not become a job here
    is_busy: bool = False  # an open transaction of others has what the job needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one look has done."""

    ticked: Sequence[Ticked] = ()
    failed: Collection[str] = ()  # names of schedules whose moment could not become a job
    busy: Collection[str] = ()  # names of schedules that wait for transactions of others
    is_full: bool = False  # there may be more to do at once


def tick_due(store: Store, *, digests: Collection[str] = (), but: Collection[str] = ()) -> Round:
    """Decide about the moments that are due; send ``schedule_ticked`` once that is committed.

    ``digests``: what this process declares. ``but``: names of schedules that are left to others.
    Each schedule has a transaction of its own: one that waits locks no other.
    """
    seen: dict[str, Decided] = {}
    for _number in range(MOST_SCHEDULES):
        one = _decide_next(store, digests=digests, but={*but, *seen})
        if one is None:
            break
        seen[one.schedule] = one
        for told in one.ticked:
            _send(store.alias, told)
        if one.is_busy:  # the caller has other work, too
            break
    ticked = [told for one in seen.values() for told in one.ticked]
    busy = {name for name, one in seen.items() if one.is_busy}
    return Round(
        ticked=ticked,
        failed={name for name, one in seen.items() if one.has_failed},
        busy=busy,
        is_full=bool(busy) or len(seen) == MOST_SCHEDULES or len(ticked) > len(seen),
    )


def _decide_next(
    store: Store, *, digests: Collection[str], but: Collection[str]
) -> Decided | None:
    """Decide about the schedule that is due first; None if there is none for this process."""
    rows: list[Schedule] = []
    try:
        with store.writing_briefly():
            rows += store.lock_due_schedules(digests=digests, but=but, limit=1)
            if not rows:
                return None
            # What others know is left to them; what nobody knows, doctor says.
            done = _decide(store, rows[0]) if known_task(rows[0].task_path) is not None else None
    except OperationalError as error:
        if not is_lock_timeout(error):
            raise
        if not rows:  # a database that cannot skip locked rows: it is made there
            return None
        log_line(logging.INFO, BUSY, rows[0].name)
        return Decided(schedule=rows[0].name, is_busy=True)
    return Decided(schedule=rows[0].name, ticked=done or (), has_failed=done is None)


def _decide(store: Store, row: Schedule) -> list[Ticked] | None:
    """Decide about one schedule; None if that is not possible here, which is noted."""
    try:
        with transaction.atomic(using=store.alias):
            return _made(store, row)
    except Lost:
        raise
    except Exception as error:
        log_error("The schedule %r cannot make its job", row.name, error=error)
        what = one_line(f"{type(error).__name__}: {error}")[:LONGEST_PROBLEM]
        store.change_schedule(row, problem=what)
        return None


def _made(store: Store, row: Schedule) -> list[Ticked]:
    now = store.clock()  # behind the lock: nobody else decides about a later moment
    plan = Spec.of(row).timing.plan(next_run=row.next_run, now=now)
    if row.overlap == SKIP and plan.run:
        return _made_unless_it_runs(store, row, plan, now=now)
    return _make(store, row, plan, now=now, moments=plan.run)


def _made_unless_it_runs(
    store: Store, row: Schedule, plan: Plan, *, now: datetime
) -> list[Ticked]:
    """Make one job at most, and none while one has not ended."""
    if store.has_live_job(row):
        return _make(store, row, plan, now=now, moments=(), skipped=plan.run)
    return _make(store, row, plan, now=now, moments=plan.run[-1:], skipped=plan.run[:-1])


def _make(
    store: Store,
    row: Schedule,
    plan: Plan,
    *,
    now: datetime,
    moments: Sequence[datetime],
    skipped: Sequence[datetime] = (),
) -> list[Ticked]:
    jobs = {moment: _new_job(row, moment, now=now) for moment in moments}
    ticks: dict[datetime, UUID | None] = {one: job.id for one, (_task, job) in jobs.items()}
    mine = (
        store.take_ticks(row.name, ticks | dict.fromkeys(skipped)) if ticks or skipped else set()
    )
    made = {one: _insert(store, row, one, *jobs[one]) for one in moments if one in mine}
    left_out = [one for one in skipped if one in mine]
    columns: dict[str, Any] = store.left_out(missed=plan.missed, skipped=len(left_out))
    if made:
        columns |= {"last_run": max(made), "last_job_id": made[max(made)]}
    store.change_schedule(row, next_run=plan.next_run, problem="", **columns)
    told = partial(Ticked, schedule=row.name, missed=plan.missed)
    found = [told(moment=one, job_id=job, late=now - one) for one, job in made.items()]
    found += [
        told(moment=one, job_id=None, late=now - one, reason=STILL_RUNS) for one in left_out
    ]
    if not found and row.next_run is not None and plan.missed:
        found = [told(moment=row.next_run, job_id=None, late=now - row.next_run, reason="missed")]
    return found


def _insert(store: Store, row: Schedule, moment: datetime, task: Any, job: NewJob) -> UUID:
    result = _backend(row).insert_job(task, job)
    job_id = UUID(str(result.id))
    if job_id != job.id:  # a unique task: the job that waits already does the work of this moment
        store.tick_became(row.name, moment, job_id)
    return job_id


def _new_job(row: Schedule, moment: datetime, *, now: datetime) -> tuple[Any, NewJob]:
    starts_at = Spec.of(row).timing.starts_at(row.name, moment)
    return job_of(
        row, Scheduled(row.name, moment), run_after=starts_at if starts_at > now else None
    )


def job_of(
    row: Schedule, scheduled: Scheduled, *, run_after: datetime | None = None
) -> tuple[Any, NewJob]:
    """Return the task as it is called, and the job of a schedule for a moment.

    Raises as ``enqueue`` does, and ``ConfigurationError`` for a task or a backend that this
    process does not know.
    """
    task = known_task(row.task_path) or declared_task(row.task_path)
    if task is None:
        raise ConfigurationError(
            f"The schedule {row.name!r} names the task {row.task_path!r}, which nothing declares."
        )
    changes = {
        "backend": row.backend,
        "queue_name": row.queue or None,
        "priority": row.priority,
        "run_after": run_after,
    }
    called = task.using(**{name: one for name, one in changes.items() if one is not None})
    args, kwargs = read_arguments(row.payload)
    return called, _backend(row).new_job(called, args, kwargs, scheduled=scheduled)


def _backend(row: Schedule) -> DatabaseBackend:
    known = row.backend in task_backends.settings
    backend = task_backends[row.backend] if known else None
    if not isinstance(backend, DatabaseBackend):
        raise ConfigurationError(
            f"The schedule {row.name!r} names the backend {row.backend!r}, which is no "
            "aftercommit.DatabaseBackend in TASKS."
        )
    return backend


def _send(using: str, one: Ticked) -> None:
    events.send(
        events.schedule_ticked,
        sender=DatabaseBackend,
        using=using,
        schedule=one.schedule,
        moment=one.moment,
        job_id=one.job_id,
        late=max(one.late, NO_TIME),
        missed=one.missed,
        reason=one.reason,
    )
    if one.job_id is None:
        check_in(using, "missed", Scheduled(one.schedule, one.moment), job_id=None)


def check_in(
    using: str,
    status: str,
    scheduled: Scheduled,
    *,
    job_id: UUID | None,
    attempt: int = 0,
    duration: timedelta | None = None,
) -> None:
    """Send ``schedule_checked_in``."""
    events.send(
        events.schedule_checked_in,
        sender=DatabaseBackend,
        status=status,
        using=using,
        schedule=scheduled.name,
        moment=scheduled.moment,
        job_id=job_id,
        attempt=attempt,
        duration=duration,
    )
