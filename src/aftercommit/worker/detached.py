"""The context of a task that is called without a worker: by a test, or by another backend.

What the task does with it stays in ``recorded``; nothing of it is written to the tables of jobs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from django.db import transaction
from django.utils import timezone

from aftercommit._compat import BaseTask, TaskResult, task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.moments import checked_end
from aftercommit.enqueue.payload import load_schedule, with_schedule
from aftercommit.enqueue.results import running_result
from aftercommit.errors import AlreadyCommitted
from aftercommit.ids import new_job_id
from aftercommit.notes import NewLine, NewProgress
from aftercommit.options.conf import BackendOptions
from aftercommit.store import default_alias
from aftercommit.values import Claim, Scheduled
from aftercommit.worker.facts import TaskFacts, facts_for
from aftercommit.worker.notes import RunNotes, notes_of
from aftercommit.worker.running import kept
from aftercommit.worker.running.atomic.transaction import Finish
from aftercommit.worker.running.context import JobContext
from aftercommit.worker.runs import Run, now

EMPTY = '{"args": [], "kwargs": {}}'
A_DAY = 86_400.0  # seconds
NOBODY = UUID(int=0)  # the worker
FAILED_BEFORE = {
    "exception_class_path": "builtins.Exception",
    "traceback": "(an earlier attempt that the test has made up)",
    "worker_id": str(NOBODY),
}


@dataclass(slots=True)
class Recorded:
    """What a task has done with its context."""

    using: str  # the database alias of ``commit()``
    finish: Finish | None = None  # of ``commit()``, once its block has ended well
    progress: NewProgress | None = None  # the latest
    log: list[NewLine] = field(default_factory=list)
    saved: str | None = None  # the checkpoint, JSON text
    answers: dict[str, str] = field(default_factory=dict)  # of ``once()``, JSON texts
    paused_until: datetime | timedelta | None = None  # its rate

    @property
    def committed(self) -> bool:
        """Whether ``commit()`` was called and its block has ended well."""
        return self.finish is not None

    @property
    def return_value(self) -> Any:
        """The return value that ``commit()`` was given; None without one."""
        return None if self.finish is None else self.finish.return_value


@dataclass(frozen=True, slots=True, kw_only=True)
class DetachedContext(JobContext):  # type: ignore[misc]
    """A context without a worker; see ``recorded``."""

    recorded: Recorded

    def idempotency_key_for(self, name: str) -> str:
        """See ``JobContext``; another backend's id need not be a UUID."""
        return kept.key_for(str(_as_uuid(self.job_id)), name)


class _Keeper:
    """Keeps in memory what a worker would write."""

    def __init__(self, recorded: Recorded) -> None:
        self._recorded = recorded
        self.alias = recorded.using

    def note(self, notes: RunNotes) -> None:
        progress, lines = notes.take(over=True)
        self._recorded.progress = progress or self._recorded.progress
        self._recorded.log += lines

    def save(self, _run: Run, value: str) -> bool:
        self._recorded.saved = value
        return True

    def saved(self, _run: Run) -> str | None:
        return self._recorded.saved

    def answers(self, _run: Run) -> dict[str, str]:
        return dict(self._recorded.answers)

    def record(self, _run: Run, name: str, value: str) -> str:
        return self._recorded.answers.setdefault(name, value)


def detached_context(
    task: BaseTask,
    *,
    result: TaskResult | None = None,
    attempt: int = 1,
    cancelled: bool = False,
    saved: str | None = None,
    schedule: Scheduled | None = None,
    tags: Sequence[str] = (),
) -> DetachedContext:
    """Return a context for a call of a task; ``result``: that of another backend."""
    backend: Any = task_backends[task.backend]
    ours = isinstance(backend, DatabaseBackend)
    facts = facts_for(task, backend.config if ours else BackendOptions())
    recorded = Recorded(using=backend.using if ours else default_alias(), saved=saved)
    job_id = new_job_id() if result is None else _as_uuid(result.id)
    claim = _claim(task, job_id, attempt=attempt, schedule=schedule)
    run = _run(claim, facts, cancelled=cancelled)
    keeper = _Keeper(recorded)
    return DetachedContext(
        task_result=result or running_result(claim, task),
        enter_commit=partial(_commit, recorded, facts.succeed),
        is_cancel_requested=lambda: run.cancel_requested,
        check=run.checkpoint,
        pause_rate=partial(_pause, recorded),
        notes=partial(notes_of, run, keeper),
        tags=[*getattr(task, "tags", ()), *tags],
        find_schedule=partial(load_schedule, claim.payload),
        recorded=recorded,
    )


@contextmanager
def _commit(recorded: Recorded, succeed: Callable[[Any], Any]) -> Iterator[Finish]:
    """Commit the effects of the block; raises as a worker's ``commit()`` does."""
    if recorded.committed:
        raise AlreadyCommitted
    finish = Finish()
    with transaction.atomic(using=recorded.using):
        yield finish
        succeed(finish.return_value)
    recorded.finish = finish


def _pause(recorded: Recorded, until: datetime | timedelta) -> None:
    recorded.paused_until = checked_end(until)


def _run(claim: Claim, facts: TaskFacts, *, cancelled: bool) -> Run:
    owner: Any = None  # nobody takes its outcome
    run = Run(claim, facts, owner, fresh_for=A_DAY, held_since=now(), renewed_at=now())
    run.cancel_requested = cancelled
    return run


def _claim(task: BaseTask, job_id: UUID, *, attempt: int, schedule: Scheduled | None) -> Claim:
    moment = timezone.now()
    return Claim(
        job_id=job_id,
        token=attempt + 1,  # so that a checkpoint and answers are looked up
        attempt=attempt,
        crashes=0,
        conflicts=0,
        max_attempts=max(attempt, 1),
        task_path=task.module_path,
        payload=EMPTY if schedule is None else with_schedule(EMPTY, schedule),
        errors=json.dumps([FAILED_BEFORE] * (attempt - 1)),
        backend=task.backend,
        queue=task.queue_name,
        priority=task.priority,
        tags=None,
        headers=None,
        run_after=moment,
        enqueued_at=moment,
        started_at=moment,
        claimed_at=moment,
        worker_id=NOBODY,
        lease_id=NOBODY,
    )


def _as_uuid(job_id: str) -> UUID:
    try:
        return UUID(job_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, job_id)
