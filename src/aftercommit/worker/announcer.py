"""Tells Django's task signals and our own events what has become of a run."""

import logging

from django.dispatch import Signal
from django.utils import timezone

from aftercommit import events, telemetry
from aftercommit._compat import (
    TaskError,
    TaskResult,
    TaskResultStatus,
    task_backends,
    task_finished,
    task_started,
    tasks_signals,
)
from aftercommit.backend import DatabaseBackend, JobResult, result_of
from aftercommit.models import Job
from aftercommit.payload import load_arguments
from aftercommit.tasks import Task, registered
from aftercommit.values import Cancelled, Claim, Failed, Ran, Retry, Succeeded


def _of_django(signal: Signal, name: str) -> events.Audience:
    own = getattr(tasks_signals, f"log_{name}", None)
    return events.Audience(signal, log=tasks_signals.logger, own=id(own))


class Announcer:
    """Sends signals after the fact; what a receiver raises changes nothing."""

    def __init__(self) -> None:
        self._started = _of_django(task_started, "task_started")
        self._finished = _of_django(task_finished, "task_finished")
        self._ended = events.Audience(
            events.job_ended, log=telemetry.logger, own=telemetry.RECEIVER
        )

    def started(self, claim: Claim, task: Task, *, wanted: bool) -> TaskResult | None:
        """Tell that the first line of a task is next.

        Returns Django's view of the job if it is ``wanted``, or was needed for telling.
        """
        heard = self._started.hears(logging.INFO)
        if not heard and not wanted:
            return None
        result = running_result(claim, task)
        if heard:
            events.tell(task_started, sender=_sender(claim.backend), task_result=result)
        return result

    def ended(self, claim: Claim, ran: Ran) -> None:
        """Tell how a run ended, once that is in the table."""
        good = isinstance(ran.outcome, Succeeded)
        if not good or self._ended.hears(logging.DEBUG):
            events.tell(events.job_ended, sender=DatabaseBackend, claim=claim, ran=ran)
        if not good or self._finished.hears(logging.INFO):
            self._finished_by(claim, ran)

    def _finished_by(self, claim: Claim, ran: Ran) -> None:
        task = registered(claim.task_path)
        if task is None or isinstance(ran.outcome, Retry):
            return
        result = running_result(claim, task)
        if not _end(result, ran):
            return
        try:
            if ran.exception is not None:
                raise ran.exception  # so that Django's log finds it in sys.exc_info()
        except BaseException:
            events.tell(task_finished, sender=_sender(claim.backend), task_result=result)
        else:
            events.tell(task_finished, sender=_sender(claim.backend), task_result=result)

    def quarantined(self, job: Job) -> None:
        """Tell that a job has ended without a run: it killed too many workers."""
        task = registered(job.task_path)
        if task is not None:
            result = result_of(job, task)
            events.tell(task_finished, sender=_sender(job.backend), task_result=result)

    def lost(self, claim: Claim) -> None:
        """Tell that an outcome came too late."""
        events.tell(events.claim_lost, sender=DatabaseBackend, claim=claim)


def _sender(alias: str) -> type:
    """Return what Django's task signals name as their sender: the class of the backend."""
    return type(task_backends[alias]) if alias in task_backends.settings else DatabaseBackend


def running_result(claim: Claim, task: Task) -> JobResult:
    """Return Django's view of a claimed job, without asking the database."""
    args, kwargs = load_arguments(claim.payload)
    errors, workers = claim.history()
    return JobResult(
        task=task,
        id=str(claim.job_id),
        status=TaskResultStatus.RUNNING,
        state="running",
        enqueued_at=claim.enqueued_at,
        started_at=claim.started_at,
        last_attempted_at=claim.claimed_at,
        finished_at=None,
        args=args,
        kwargs=kwargs,
        backend=claim.backend,
        errors=[
            TaskError(exception_class_path=one.exception_class_path, traceback=one.traceback)
            for one in errors
        ],
        worker_ids=[*workers, str(claim.worker_id)][-claim.attempt :],
    )


def _end(result: JobResult, ran: Ran) -> bool:
    """Put the end into Django's view; False if this is none (given back)."""
    match ran.outcome:
        case Succeeded():
            state, status = "succeeded", TaskResultStatus.SUCCESSFUL
            object.__setattr__(result, "_return_value", ran.outcome.value)
        case Failed(error) | Cancelled(error):
            state = "failed" if isinstance(ran.outcome, Failed) else "cancelled"
            status = TaskResultStatus.FAILED
            result.errors.append(
                TaskError(
                    exception_class_path=error.exception_class_path, traceback=error.traceback
                )
            )
        case _:
            return False
    object.__setattr__(result, "state", state)
    object.__setattr__(result, "status", status)
    object.__setattr__(result, "finished_at", timezone.now())
    return True
