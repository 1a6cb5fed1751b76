"""Change schedules at run time: enable, disable, run now, edit, reset, create, remove."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.results import JobResult
from aftercommit.errors import ConfigurationError, NoSuchSchedule, ScheduleExists
from aftercommit.models import Schedule as Row
from aftercommit.options.schedules import ScheduleOptions, check_schedule_name
from aftercommit.schedules.declared import spec_of
from aftercommit.schedules.found import Schedule, get, store_of
from aftercommit.schedules.spec import Spec
from aftercommit.schedules.ticking import job_of
from aftercommit.store.base import Store
from aftercommit.store.clock import DatabaseNow
from aftercommit.stored import read_arguments
from aftercommit.values import Scheduled

PEOPLE = Row.Source.PEOPLE.value
NOT_EDITED = ("task", "backend")


def enable(name: str, *, using: str | None = None) -> Schedule:
    """Let a schedule be due again, from now on: what was due meanwhile is not made up for.

    Raises ``NoSuchSchedule``, also for one that has ended: it begins again when code or settings
    declare it.
    """
    store = store_of(name, using)
    with store.writing():
        row, now = _locked(store, name)
        check_enable(row)
        if not row.enabled:
            next_run = Spec.of(row).timing.next_after(now)
            _change(store, row, enabled=True, next_run=next_run, problem="")
    return get(name, store.alias)


def disable(name: str, *, using: str | None = None) -> Schedule:
    """Let a schedule not be due until it is enabled; its jobs go on, also those that wait."""
    store = store_of(name, using)
    with store.writing():
        row, _now = _locked(store, name)
        if row.enabled:
            _change(store, row, enabled=False, next_run=None)
    return get(name, store.alias)


def run_now(name: str, *, using: str | None = None) -> JobResult:
    """Enqueue a job of a schedule now, also of a disabled one; its moments stay as they are.

    The job has ``context.schedule`` as any of the schedule, with the present moment.
    Raises ``ConfigurationError`` if this process does not know the task, and as ``enqueue`` does.
    """
    store = store_of(name, using)
    with store.writing():
        row, now = _locked(store, name)
        task, job = job_of(row, Scheduled(name, now))
        result = task.get_backend().insert_job(task, job)
        store.change_schedule(row, last_job_id=UUID(str(result.id)))
    return result  # type: ignore[no-any-return]


def edit(name: str, *, using: str | None = None, **changes: Any) -> Schedule:
    """Change what a schedule says: ``cron``, ``every``, ``timezone``, ``args``, ``queue`` ….

    The names are those of ``OPTIONS["schedules"]``, but for the task. What is changed of a
    declared schedule stays as it is when the declaration changes, until ``reset()``. Raises
    ``ConfigurationError`` for what is not possible; nothing is changed then.
    """
    store = store_of(name, using)
    with store.writing():
        row, now = _locked(store, name)
        before, after = Spec.of(row), check_edit(row, **changes)
        changed = {
            column: value
            for column, value in after.columns().items()
            if value != getattr(before, column)
        }
        if row.source != PEOPLE:
            changed["edited"] = _edited(row, after) or None
        _change(store, row, **changed, **_next_run(row, before, after, now))
    return get(name, store.alias)


def reset(name: str, *, using: str | None = None) -> Schedule:
    """Let a schedule say again what code or settings declare."""
    store = store_of(name, using)
    with store.writing():
        row, now = _locked(store, name)
        if row.declared is None:
            raise ConfigurationError(
                f"The schedule {name!r} was made by people: there is no declaration of it."
            )
        after = Spec.from_json(row.declared)
        changed = {**after.columns(), "edited": None}
        _change(store, row, **changed, **_next_run(row, Spec.of(row), after, now))
    return get(name, store.alias)


def create(
    name: str,
    *,
    task: str,
    backend: str = "default",
    enabled: bool = True,
    **options: Any,
) -> Schedule:
    """Make a schedule; ``options`` as in ``OPTIONS["schedules"]``.

    Raises ``ScheduleExists``, and ``ConfigurationError`` for what is not possible.
    """
    spec = check_new(name, task=task, backend=backend, **options)
    store = _backend(backend).store
    with store.writing():
        next_run = spec.timing.next_after(store.clock()) if enabled else None
        store.create_schedule(
            name=name, source=PEOPLE, enabled=enabled, next_run=next_run, **spec.columns()
        )
        store.schedules_changed()
    return get(name, store.alias)


def check_new(name: str, *, task: str, backend: str, **options: Any) -> Spec:
    """Return what a new schedule would say; raises as ``create`` does."""
    check_schedule_name(name)
    path = getattr(task, "module_path", task)
    spec = _spec(ScheduleOptions.from_mapping({"task": path, **options}, where=name), backend)
    if _backend(backend).store.schedules([name]):
        raise ScheduleExists(name=name)
    return spec


def check_edit(row: Row, **changes: Any) -> Spec:
    """Return what a schedule would say after an edit; raises as ``edit`` does."""
    for one in NOT_EDITED:
        if one in changes:
            raise ConfigurationError(f"{one} of a schedule cannot be changed: make another one.")
    return _spec(_options(row, changes), backend=row.backend)


def check_enable(row: Row) -> None:
    """Raise as ``enable`` does."""
    if row.ended_at is not None:
        raise ConfigurationError(
            f"The schedule {row.name!r} has ended: no worker declares it any more. Declare it "
            "again in code or settings, or make one of another name."
        )


def remove(name: str, *, using: str | None = None) -> None:
    """Delete a schedule that people have made, or that has ended.

    Raises ``ConfigurationError`` for one that is declared: it would be back at once.
    """
    store = store_of(name, using)
    with store.writing():
        row, _now = _locked(store, name)
        if row.source != PEOPLE and row.ended_at is None:
            raise ConfigurationError(
                f"The schedule {name!r} is declared in {row.source}, and workers would make it "
                "anew. Take it out there, or disable it."
            )
        store.delete_schedule(name)


def _locked(store: Store, name: str) -> tuple[Row, datetime]:
    row = store.lock_schedule(name)
    if row is None:
        raise NoSuchSchedule(name=name)
    return row, store.clock()


def _change(store: Store, row: Row, **columns: Any) -> None:
    store.change_schedule(row, **columns, changed_at=DatabaseNow())
    store.schedules_changed()


def _next_run(row: Row, before: Spec, after: Spec, now: datetime) -> dict[str, Any]:
    """Return the next moment, if that has changed; of a new rule, what is due after now."""
    if before.timing == after.timing or not row.enabled or row.ended_at is not None:
        return {}
    return {"next_run": after.timing.next_after(now), "problem": ""}


def _options(row: Row, changes: Mapping[str, Any]) -> ScheduleOptions:
    """Return what a row says, with changes, checked as if it stood in the settings."""
    args, kwargs = read_arguments(row.payload)
    given: dict[str, Any] = {
        "task": row.task_path,
        "args": args,
        "kwargs": kwargs,
        "queue": row.queue,
        "priority": row.priority,
        "cron": row.cron or None,
        "every": row.every,
        "timezone": row.timezone or None,
        "catch_up": row.catch_up,
        "catch_up_within": row.catch_up_within,
        "overlap": row.overlap,
        "jitter": row.jitter,
    }
    # Who changes the kind of the rule need not take the other one away.
    if changes.get("every") is not None:
        given |= {"cron": None, "timezone": None}
    if changes.get("cron") is not None:
        given["every"] = None
    return ScheduleOptions.from_mapping({**given, **changes}, where=row.name)


def _spec(options: ScheduleOptions, backend: str) -> Spec:
    chosen = _backend(backend)
    task = declared_task(options.task)
    if task is None:
        raise ConfigurationError(f"{options.task!r} is no task that this process knows.")
    try:
        chosen.new_job(task.using(backend=backend), options.args, dict(options.kwargs))
    except TypeError as error:
        raise ConfigurationError(f"{task.module_path} does not take these: {error}") from error
    return spec_of(options, chosen)


def _edited(row: Row, after: Spec) -> list[str]:
    """Return the columns that are not as they are declared."""
    declared = Spec.from_json(str(row.declared)).columns()
    return [column for column, value in after.columns().items() if value != declared[column]]


def _backend(alias: str) -> DatabaseBackend:
    backend = task_backends[alias]
    if not isinstance(backend, DatabaseBackend):
        raise ConfigurationError(f"TASKS[{alias!r}] is no aftercommit.DatabaseBackend.")
    return backend
