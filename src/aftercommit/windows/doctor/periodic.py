"""Schedules whose moments pass without a job, and why."""

from collections.abc import Iterator
from datetime import timedelta

from aftercommit.enqueue.called import declared_task
from aftercommit.printable import one_line
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.schedules.found import Schedule, in_database
from aftercommit.store.base import Store
from aftercommit.windows.doctor.finding import Ailment, Finding
from aftercommit.wording import counted, spoken


def schedules(store: Store) -> Iterator[Finding]:
    """Say what is wrong with the schedules that are enabled."""
    found = [one for one in in_database(store) if one.enabled and one.ended_at is None]
    if found and not store.workers.count_seen(within=SEEN_WITHIN):
        yield _wrong(
            store,
            "no-scheduler",
            f"{counted(len(found), 'schedule')} wait for a worker: each worker makes their jobs, "
            "and none is there.",
            "Run 'manage.py aftercommit worker'.",
        )
        return
    for one in found:
        yield from _one(store, one)


def _one(store: Store, one: Schedule) -> Iterator[Finding]:
    name = f"The schedule {one_line(one.name)!r}"
    if declared_task(one.task) is None:
        yield _wrong(
            store,
            "unknown-task-of-schedule",
            f"{name} names the task {one.task!r}, which nothing here declares.",
            "Declare the task, or give its new place this name in aliases=(...); or disable the "
            "schedule.",
        )
    elif one.problem:
        yield _wrong(
            store,
            "schedule-problem",
            f"{name} cannot make its job: {one_line(one.problem)}",
            "Correct its arguments, its queue or its task; it is tried again each minute.",
        )
    elif one.late is not None:
        late = spoken(timedelta(seconds=int(one.late.total_seconds())))
        yield _wrong(
            store,
            "late-schedule",
            f"{name} is late by {late}: workers are there, and none makes its job.",
            "The workers of the version that declares it may be gone: start one, and look at the "
            "logs of the workers."
            if one.source != "people"
            else "Look at the logs of the workers.",
        )
    elif one.next_run is None:
        yield _wrong(
            store,
            "never-due",
            f"{name} is enabled and never due again ({one.when}).",
            "Correct when it is due, or disable it.",
        )


def _wrong(store: Store, check: str, text: str, cure: str) -> Finding:
    return Finding(store.alias, check, text, cure, ailment=Ailment.NOBODY)
