"""What code and settings declare, and how it comes into the table.

Several versions of the code may run side by side. In force is the declaration that appeared last:
what a new version says replaces what an old one has said, and a worker of the old version that is
started again changes nothing. Only when no worker has declared for a while what is in force,
because all of them were replaced, an earlier declaration may be put in force again: the new
version was taken back. In the same way a schedule ends that nobody declares any more. Whoever
does not declare what is in force makes none of its ticks.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.payload import dump_arguments
from aftercommit.enqueue.periodic import TimesOfTask
from aftercommit.enqueue.registry import declared_tasks, option
from aftercommit.models import Schedule
from aftercommit.options.schedules import TIMES, ScheduleOptions
from aftercommit.schedules.spec import Declared, Spec
from aftercommit.store.base import Store
from aftercommit.store.clock import DatabaseNow

SEEN_EVERY = timedelta(seconds=30)
GONE_AFTER = timedelta(minutes=2)  # without a worker that declares it
ONLY_AWAY = timedelta(hours=1)  # since they were taken for gone
MOST_FORMER = 50  # digests that a row remembers


def declared_in(using: str) -> dict[str, Declared]:
    """Return the schedules that this process declares for a database, by their names.

    One in the settings has priority over the task of the same name.
    """
    here = [one for one in our_backends() if one.using == using]
    found = {one.name: one for one in _of_tasks(here)}
    return found | {one.name: one for backend in here for one in _of_settings(backend)}


def _of_tasks(backends: list[DatabaseBackend]) -> Iterator[Declared]:
    aliases = {one.alias for one in backends}
    for task in declared_tasks():
        is_periodic = option(task, "cron") is not None or option(task, "every") is not None
        if is_periodic and task.backend in aliases:
            payload = dump_arguments((), {}, task_path=task.module_path, limit=1024)
            spec = Spec(
                task_path=task.module_path,
                backend=task.backend,
                payload=payload,
                **_times(TimesOfTask(task)),
            )
            yield Declared(task.module_path, Schedule.Source.CODE.value, spec)


def _of_settings(backend: DatabaseBackend) -> Iterator[Declared]:
    given: Any  # a ScheduleOptions, since the options were checked
    for name, given in backend.config.schedules.items():
        yield Declared(name, Schedule.Source.SETTINGS.value, spec_of(given, backend))


def spec_of(given: ScheduleOptions, backend: DatabaseBackend) -> Spec:
    """Return what a schedule says whose options are given, in the settings or by people."""
    payload = dump_arguments(
        given.args,
        given.kwargs,
        task_path=given.task,
        limit=backend.config.max_payload,
        strict=backend.config.strict_json,
    )
    return Spec(
        task_path=given.task,
        backend=backend.alias,
        payload=payload,
        queue=given.queue,
        priority=given.priority,
        **_times(given),
    )


def _times(given: Any) -> dict[str, Any]:
    found = {name: getattr(given, name) for name in TIMES}
    found["cron"] = found["cron"] or ""
    found["timezone"] = (given.timezone or settings.TIME_ZONE) if given.cron else ""
    return found


def check_in(store: Store, mine: Mapping[str, Declared], *, ends_others: bool) -> None:
    """Bring what this process declares into the table, and say that somebody declares it.

    ``ends_others``: end what nobody declares any more. Not right after a start: the workers
    that declare it may be about to start as well.
    """
    rows = {row[0]: row[1:] for row in store.declared_schedules()}
    for name, one in mine.items():
        if name not in rows:
            _create(store, one)
            continue
        digest, former, ended_at = rows[name]
        if digest != one.digest or ended_at is not None:
            _put_in_force(store, one, is_new=one.digest not in [digest, *former])
    if mine:
        store.saw_schedules([one.digest for one in mine.values()], unless_within=SEEN_EVERY)
    if ends_others and rows:
        store.end_unseen_schedules(after=GONE_AFTER)


def _create(store: Store, one: Declared) -> None:
    now = store.clock()
    store.create_schedule(
        name=one.name,
        source=one.source,
        next_run=one.spec.timing.next_after(now),
        **_declaration(one),
        **one.spec.columns(),
    )


def _put_in_force(store: Store, one: Declared, *, is_new: bool) -> None:
    """Let a declaration replace the one in force, unless that is newer and workers declare it."""
    with store.writing():
        row = store.lock_schedule(one.name)
        if row is None:
            return  # deleted a moment ago
        now = store.clock()
        goes_on = row.digest == one.digest and row.ended_at is None
        if goes_on or not (is_new or row.ended_at or _is_gone(row, now)):
            return
        edited = _edited(row, one)
        columns = {k: v for k, v in one.spec.columns().items() if k not in edited}
        after = Spec(**{**Spec.of(row).columns(), **columns}).timing
        if after != Spec.of(row).timing or row.ended_at is not None:
            columns["next_run"] = after.next_after(_since(row, one, now)) if row.enabled else None
        former = [each for each in (*row.former, row.digest) if each not in ("", one.digest)]
        store.change_schedule(
            row,
            **columns,
            **_declaration(one),
            source=one.source,
            edited=edited or None,
            former=former[-MOST_FORMER:],
            ended_at=None,
            problem="",
            changed_at=DatabaseNow(),
        )


def _edited(row: Schedule, one: Declared) -> list[str]:
    """Return what people have said, and so stays: all of it, if they have made the schedule."""
    if row.source != Schedule.Source.PEOPLE:
        return list(row.edited)
    declared = one.spec.columns()
    return [name for name, value in Spec.of(row).columns().items() if value != declared[name]]


def _since(row: Schedule, one: Declared, now: datetime) -> datetime:
    """Return from when on moments count: none of the time in which it was not declared.

    But for one that ended a moment ago and is as it was: its workers were only away.
    """
    ended: datetime | None = row.ended_at
    only_away = ended is not None and row.digest == one.digest and now - ended < ONLY_AWAY
    return (row.seen_at or now) if only_away else now


def _is_gone(row: Schedule, now: datetime) -> bool:
    return row.seen_at is None or now - row.seen_at > GONE_AFTER


def _declaration(one: Declared) -> dict[str, Any]:
    now = DatabaseNow()
    return {
        "declared": one.spec.as_json(),
        "digest": one.digest,
        "declared_at": now,
        "seen_at": now,
    }
