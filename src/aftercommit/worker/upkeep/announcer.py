"""Sends the signals of aftercommit and of Django about runs."""

import logging
from contextvars import Context

from aftercommit import events
from aftercommit._compat import BaseTask, TaskResult
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.finished import send_rescued, sender_of
from aftercommit.enqueue.results import finished_result, running_result
from aftercommit.enqueue.signals import finished, started
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

    def started(self, claim: Claim, task: BaseTask, *, wanted: bool) -> TaskResult | None:
        """Announce that the body of a task is about to begin.

        Returns Django's ``TaskResult`` if it is ``wanted``, or was needed for the signal.
        """
        listened = started.any(logging.INFO)
        if not listened and not wanted:
            return None
        result = running_result(claim, task)
        if listened:
            started.send(sender=sender_of(claim.backend), task_result=result)
        return result

    def start_is_heard(self) -> bool:
        """Return whether ``task_started`` has a receiver besides the one that only logs."""
        return started.has_others

    def ended(self, run: Run, result: RunResult) -> None:
        """Announce how a run ended; ``result`` is what the table contains.

        There is no signal for a run that was released before it had begun. Receivers find the
        context variables as the run has left them.
        """
        good = isinstance(result.outcome, Succeeded)
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

    def lost(self, claim: Claim) -> None:
        """Announce that an outcome was not written, because the claim was lost."""
        events.send(events.claim_lost, sender=DatabaseBackend, claim=claim)


def _is_decided(outcome: Outcome) -> bool:
    """Return whether somebody has decided the end: the task by its exception, or an operator."""
    return isinstance(outcome, Cancelled) or (isinstance(outcome, Failed) and outcome.discarded)
