"""Runs a task in a Celery worker by aftercommit's options, and retries it through Celery."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

from celery import shared_task
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from django.db import connections, transaction
from django.utils import timezone

from aftercommit._compat import TaskResult, TaskResultStatus, task_backends
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.payload import dump_result
from aftercommit.enqueue.policy import Policy, policy_of
from aftercommit.enqueue.registry import registered
from aftercommit.enqueue.task import Task
from aftercommit.errors import AlreadyCommitted, ConfigurationError, TimedOut
from aftercommit.options.conf import BackendOptions
from aftercommit.store import default_alias, store_for
from aftercommit.transient_errors import is_conflict
from aftercommit.values import Cancelled, Released, Retry
from aftercommit.worker.running.atomic.transaction import Finish
from aftercommit.worker.running.context import JobContext
from aftercommit.worker.running.outcome import outcome_of

RUN = "aftercommit.run"  # the name for Celery; its logs show the path of the task


class Attempt(NamedTuple):
    """How often a task may run, and how often it has run."""

    max_attempts: int
    failed_runs: int = 0
    conflicts: int = 0


class Copy(BaseException):
    """The message is a copy: its effects are committed already."""


class Call(NamedTuple):
    """One delivery of a message."""

    message_id: str
    task: Task
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    backend: str
    attempt: Attempt
    policy: Policy
    using: str

    @contextmanager
    def effects(self) -> Iterator[Finish]:
        """Open a transaction for the effects, which also records the id of the message."""
        with transaction.atomic(using=self.using, durable=True):
            if not store_for(self.using).receive(message_id=self.message_id, consumer=RUN):
                raise Copy
            yield Finish()

    def run(self) -> Any:
        """Call the task's function; return what it returns."""
        if not self.policy.atomic:
            return self._body()
        with self.effects() as finish:
            finish.return_value = self._body()
        return finish.return_value

    def _body(self) -> Any:
        if not self.task.takes_context:
            return self.task.call(*self.args, **self.kwargs)
        commit = Commit(self)
        context = JobContext(task_result=self._result(), enter_commit=commit.enter)
        returned = self.task.call(context, *self.args, **self.kwargs)
        return returned if commit.finish is None else commit.finish.return_value

    def _result(self) -> Any:
        now = timezone.now()
        return TaskResult(
            task=self.task,
            id=self.message_id,
            status=TaskResultStatus.RUNNING,
            enqueued_at=None,
            started_at=now,
            last_attempted_at=now,
            finished_at=None,
            args=list(self.args),
            kwargs=dict(self.kwargs),
            backend=self.backend,
            errors=[],
            worker_ids=["celery"] * (self.attempt.failed_runs + 1),
        )


class Commit:
    """Implements ``context.commit()`` in a Celery worker, once in a run."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self.finish: Finish | None = None

    @contextmanager
    def enter(self) -> Iterator[Finish]:
        """Open the transaction of the effects."""
        if self.finish is not None or self._call.policy.atomic:
            raise AlreadyCommitted
        with self._call.effects() as finish:
            yield finish
        self.finish = finish


@shared_task(  # type: ignore[untyped-decorator]
    name=RUN, bind=True, acks_late=True, reject_on_worker_lost=True, max_retries=None
)
def run(
    self: Any,
    path: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    backend: str,
    attempt: Sequence[int],
) -> Any:
    """Run a task; a copy of a message whose effects are committed does nothing."""
    so_far = Attempt(*attempt)
    call = _call(self.request.id, path, args, kwargs, backend, so_far)
    try:
        policy = call.policy
        dumped = dump_result(
            call.run(), task_path=path, limit=policy.max_payload, strict=policy.strict_json
        )
        return json.loads(dumped)
    except Copy:
        return None
    except Exception as error:
        delay, following = _again(error, call)
        countdown = delay.total_seconds()
        raise self.retry(
            args=[path, args, kwargs, backend, following], kwargs={}, countdown=countdown
        ) from error


def _call(
    message_id: str,
    path: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    backend: str,
    attempt: Attempt,
) -> Call:
    options = getattr(task_backends[backend], "config", BackendOptions())
    task = registered(path)
    if task is None:
        discover(options.task_modules)
        task = known_task(path)
    if task is None:
        raise ConfigurationError(
            f"{path} is not known to this Celery worker, so its message has failed.\n"
            "Fix: put it into a module of an installed app, or name its module in "
            "OPTIONS['task_modules'], its package in OPTIONS['task_packages']."
        )
    using = options.using or default_alias()
    return Call(message_id, task, args, kwargs, backend, attempt, policy_of(task, options), using)


def _again(error: Exception, call: Call) -> tuple[timedelta, Attempt]:
    """Return the delay and the counts of the next run; raises if there is none."""
    attempt = call.attempt
    conflict = call.policy.atomic and is_conflict(error, vendor=connections[call.using].vendor)
    raised = TimedOut() if isinstance(error, SoftTimeLimitExceeded) else error
    match outcome_of(raised, attempt, call.policy, conflict=conflict):
        case Cancelled():
            raise Ignore from error
        case Released(delay, conflict):
            return delay, attempt._replace(conflicts=attempt.conflicts + conflict)
        case Retry(_, delay):
            return delay, attempt._replace(failed_runs=attempt.failed_runs + 1)
    raise error
