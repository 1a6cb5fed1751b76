"""Sends the signals of aftercommit and of Django about runs."""

import logging
from contextvars import Context
from datetime import timedelta

from aftercommit import events
from aftercommit._compat import BaseTask, TaskResult
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.finished import send_rescued, sender_of
from aftercommit.enqueue.payload import load_schedule
from aftercommit.enqueue.results import finished_result, running_result
from aftercommit.enqueue.signals import finished, started
from aftercommit.models import State
from aftercommit.schedules.ticking import check_in
from aftercommit.store.base import Rescued, Store
from aftercommit.values import Cancelled, Claim, Failed, Outcome, Released, RunResult, Succeeded
from aftercommit.worker.contexts import arrive
from aftercommit.worker.place import from_the_users_frame
from aftercommit.worker.runs import Run


class Announcer:
    """Sends signals about changes that are in the table; errors of receivers change nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._ended = events.Listeners(
            events.job_ended, log=events.logger, own=events.LOG_RECEIVER
        )
        self._checked_in = events.Listeners(
            events.schedule_checked_in, log=events.logger, own=events.LOG_RECEIVER
        )

    def started(self, claim: Claim, task: BaseTask, *, wanted: bool) -> TaskResult | None:
        """Announce that the body of a task is about to begin.

        Returns Django's ``TaskResult`` if it is ``wanted``, or was needed for the signal.
        """
        if self._checked_in.has_others:
            self._check_in(claim, "in_progress")
        listened = started.any(logging.INFO)
        if not listened and not wanted:
            return None
        result = running_result(claim, task)
        if listened:
            started.send(sender=sender_of(claim.backend), task_result=result)
        return result

    def start_is_heard(self) -> bool:
        """Return whether a start has a receiver besides the one that only logs."""
        return started.has_others or self._checked_in.has_others

    def start_is_told(self) -> bool:
        """Return whether a start is told to anybody, the log as well."""
        return started.any(logging.INFO) or self._checked_in.has_others

    def good_end_is_told(self) -> bool:
        """Return whether a good end is told to anybody."""
        listened = self._ended.any(logging.DEBUG) or finished.any(logging.INFO)
        return listened or self._checked_in.has_others

    def ended(self, run: Run, result: RunResult) -> None:
        """Announce how a run ended; ``result`` is what the table contains.

        There is no signal for a run that was released before it had begun. Receivers find the
        context variables as the run has left them.
        """
        good = isinstance(result.outcome, Succeeded)
        if self._checked_in.has_others and (status := _status(result.outcome)):
            self._check_in(run.claim, status, duration=run.duration)
        if good and not self._ended.any(logging.DEBUG) and not finished.any(logging.INFO):
            return  # nobody listens: the context would be made for nothing
        # A copy: the body of a run that was given up may still be in its context.
        context = Context() if run.context is None else run.context.copy()
        context.run(arrive, context.copy())
        context.run(self._announce, run, result)

    def _announce(self, run: Run, result: RunResult) -> None:
        if isinstance(result.outcome, Released) and run.given_up and not run.has_begun:
            return
        good = isinstance(result.outcome, Succeeded)
        if not good or self._ended.any(logging.DEBUG):
            events.send(
                events.job_ended,
                sender=DatabaseBackend,
                claim=run.claim,
                ran=result,
                duration=run.duration,
            )
        if finished.any(logging.INFO if good else logging.ERROR):
            self._finished(run, result)

    def _finished(self, run: Run, result: RunResult) -> None:
        claim = run.claim
        ended = finished_result(claim, run.facts.task, result.outcome, duration=run.duration)
        if ended is None:
            return
        send = finished.send_decided if _is_decided(result.outcome) else finished.send
        try:
            if result.exception is not None:
                raise result.exception  # Django's log reads it from sys.exc_info()
        except BaseException as error:
            if error is result.exception:  # without the lines of this one and of the worker
                error.__traceback__ = from_the_users_frame(error.__traceback__)
            send(sender=sender_of(claim.backend), task_result=ended)
        else:
            send(sender=sender_of(claim.backend), task_result=ended)

    def rescued(self, rescued: Rescued) -> None:
        """Announce that a job was rescued from a dead worker; the rescue may have ended it."""
        send_rescued(self._store, rescued)
        if rescued.state == State.FAILED and self._checked_in.has_others:
            job = self._store.job(rescued.job_id)
            if job is not None and (scheduled := load_schedule(job.payload)):
                check_in(self._store.alias, "error", scheduled, job_id=job.id)

    def _check_in(self, claim: Claim, status: str, *, duration: timedelta | None = None) -> None:
        """Tell monitors of periodic tasks; a retry goes on with what has begun."""
        scheduled = load_schedule(claim.payload)
        if scheduled is not None:
            check_in(
                self._store.alias,
                status,
                scheduled,
                job_id=claim.job_id,
                attempt=claim.attempt,
                duration=duration,
            )

    def lost(self, claim: Claim) -> None:
        """Announce that an outcome was not written, because the claim was lost."""
        events.send(events.claim_lost, sender=DatabaseBackend, claim=claim)


def _status(outcome: Outcome) -> str:
    """Return what monitors are told about the end of a run; nothing if the job goes on."""
    if isinstance(outcome, Succeeded):
        return "ok"
    return "error" if isinstance(outcome, (Failed, Cancelled)) else ""


def _is_decided(outcome: Outcome) -> bool:
    """Return whether somebody has decided the end: the task by its exception, or an operator."""
    return isinstance(outcome, Cancelled) or (isinstance(outcome, Failed) and outcome.discarded)
