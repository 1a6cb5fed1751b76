"""One action for all jobs that meet a filter, in steps of a few seconds.

A step is one request; each of its batches commits by itself. How far the action has come is in
its audit record, so whoever began it goes on with the next step, at once or later.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.http import QueryDict

from aftercommit.dashboard.filters import JobFilter
from aftercommit.dashboard.visit import Visit
from aftercommit.errors import BadSelection
from aftercommit.jobs import Progress, Selection
from aftercommit.models import AuditRecord
from aftercommit.store.criteria import Criteria

STOPPED = {"is_over": True, "stopped": True}  # in the details of a record
STEP = 2.0  # seconds of a request, and what its last batch takes
Operation = Callable[..., Progress]
OPERATIONS: dict[str, Operation] = {
    "retry": Selection.retry,
    "run": Selection.run_now,
    "cancel": Selection.cancel,
    "delete": Selection.prune,
}


class _TimeIsUp(Exception):
    """The step has taken long enough."""


@dataclass(slots=True)
class _Step:
    """What one step has done."""

    position: UUID | None
    found: int = 0
    changed: int = 0


def of_ids(visit: Visit, action: str, ids: tuple[UUID, ...], asked: JobFilter) -> Progress:
    """Do something to some jobs, as far as they still meet the filter of their page."""
    wanted = replace(asked.criteria(), ids=ids)
    number = visit.record(action, details={"ids": [str(one) for one in ids]})
    done = Progress()
    with suppress(BadSelection):  # nothing of this state can be changed like that
        done = OPERATIONS[action](Selection(wanted, using=visit.using))
    details = {"ids": [str(one) for one in ids]}
    visit.store.count_action(number, found=len(ids), changed=done.changed, details=details)
    return done


def begin(visit: Visit, action: str, asked: JobFilter) -> int:
    """Write that somebody does something to all jobs of a filter that there are by now."""
    last = visit.store.last_id()
    return visit.record(
        action,
        details={
            "filter": asked.query(order=""),
            "until": None if last is None else str(last),
            "position": None,
            "is_over": last is None,
        },
    )


def step(visit: Visit, record: AuditRecord) -> None:
    """Go on for a few seconds from where the action is."""
    details: dict[str, Any] = dict(record.details)
    asked = JobFilter.exactly(QueryDict(details["filter"]), visit.may)
    wanted = replace(asked.criteria(), until=UUID(details["until"]))
    before = details["position"]
    done = _Step(None if before is None else UUID(before))
    try:
        details["is_over"] = _run(visit, OPERATIONS[record.action], wanted, done)
    finally:  # what is done is committed, whatever was raised behind it
        details["position"] = None if done.position is None else str(done.position)
        _write(visit, int(record.pk), done, details)


def stop(visit: Visit, number: int) -> None:
    """Let nobody go on: what is done stays. A step that runs meanwhile is the last one."""
    with visit.store.writing():
        record = visit.store.lock_action(number)
        if record is not None and not record.details.get("is_over"):
            details = {**record.details, **STOPPED}
            visit.store.count_action(number, found=0, changed=0, details=details)


def _write(visit: Visit, number: int, done: _Step, details: dict[str, Any]) -> None:
    with visit.store.writing():
        record = visit.store.lock_action(number)
        if record is not None and record.details.get("stopped"):  # since this step has begun
            details = {**details, **STOPPED}
        visit.store.count_action(number, found=done.found, changed=done.changed, details=details)


def _run(visit: Visit, operation: Operation, wanted: Criteria, done: _Step) -> bool:
    """Walk from window to window until the time is up; return whether that was the last one."""
    ends_at = time.monotonic() + STEP
    while time.monotonic() < ends_at:
        end = visit.store.end_of_window(done.position, wanted)
        window = wanted if end is None else replace(wanted, until=end)
        before = (done.found, done.changed)

        def watch(progress: Progress, before: tuple[int, int] = before) -> None:
            done.found, done.changed = before[0] + progress.found, before[1] + progress.changed
            done.position = progress.position
            if time.monotonic() >= ends_at:
                raise _TimeIsUp

        try:
            operation(Selection(window, using=visit.using, after=done.position), progress=watch)
        except _TimeIsUp:
            return False
        except BadSelection:  # of no state that can be changed like that
            return True
        if end is None:
            return True
        done.position = end
    return False
