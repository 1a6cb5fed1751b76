"""Sentry: a transaction for each run, an event for each job that fails, check-ins of schedules.

Without it a failure is two events, which Sentry makes of two lines in the log: Django's has the
exception, and ours says it in words. Ours never becomes an event here, and Django's only if the
middleware has not seen the exception.
"""

import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_OID, uuid5

import sentry_sdk
from sentry_sdk.consts import OP, SPANDATA, SPANSTATUS
from sentry_sdk.crons import capture_checkin
from sentry_sdk.scope import add_global_event_processor
from sentry_sdk.tracing import Span, TransactionSource
from sentry_sdk.utils import event_from_exception

from aftercommit import events, schedules
from aftercommit.events import logger as our_log
from aftercommit.middleware import CANCELLED, FAILED, RETRY, Enqueuing, JobRun, around

if TYPE_CHECKING:
    from sentry_sdk._types import Event, Hint, MonitorConfig

ORIGIN = "auto.queue.aftercommit"
TRACE = {"sentry-trace": "sentry-trace", "baggage": "sentry-baggage"}  # Sentry's names, and ours
DJANGO = ("django.tasks", "django_tasks")  # the loggers of what has ended, with its exception
REPORTED = "__aftercommit_reported__"
STATUS = {
    None: SPANSTATUS.INTERNAL_ERROR,
    FAILED: SPANSTATUS.INTERNAL_ERROR,
    RETRY: SPANSTATUS.INTERNAL_ERROR,
    CANCELLED: SPANSTATUS.CANCELLED,
}


@contextmanager
def headers(enqueuing: Enqueuing) -> Iterator[dict[str, str]]:
    """Make a span of a call that enqueues, and pass its trace to the jobs."""
    with sentry_sdk.start_span(op=OP.QUEUE_PUBLISH, name=enqueuing.name, origin=ORIGIN) as span:
        span.set_data(SPANDATA.MESSAGING_SYSTEM, "aftercommit")
        span.set_data(SPANDATA.MESSAGING_DESTINATION_NAME, enqueuing.queue)
        if len(enqueuing.job_ids) == 1:
            span.set_data(SPANDATA.MESSAGING_MESSAGE_ID, enqueuing.job_ids[0])
        found = sentry_sdk.get_current_scope().iter_trace_propagation_headers(span=span)
        yield {TRACE[name]: value for name, value in found if name in TRACE}


@contextmanager
def _transaction(run: JobRun) -> Iterator[None]:
    error: BaseException | None = None
    with sentry_sdk.isolation_scope() as scope:
        scope.clear_breadcrumbs()
        _describe(run, scope)
        transaction = sentry_sdk.continue_trace(
            {name: run.headers[ours] for name, ours in TRACE.items() if ours in run.headers},
            op=OP.QUEUE_PROCESS,
            name=run.name,
            source=TransactionSource.TASK,
            origin=ORIGIN,
        )
        sampling = {"aftercommit": {"task": run.name, "queue": run.queue}}
        with sentry_sdk.start_transaction(transaction, custom_sampling_context=sampling) as span:
            _describe_span(run, span)
            try:
                yield
            except BaseException as raised:
                error = raised
            _report_failures(run)
            status = SPANSTATUS.OK if error is None else STATUS.get(run.outcome)
            span.set_status(status or SPANSTATUS.ABORTED)
    if error is not None:
        raise error  # only here: inside, Sentry would make an error of a Snooze


def _report_failures(run: JobRun) -> None:
    """Report what the jobs of a call have failed with for good, each exception once."""
    errors = [one.error for one in run.runs if one.outcome == FAILED]
    for error in {id(one): one for one in errors if one is not None}.values():
        _report(error)


def _describe(run: JobRun, scope: "sentry_sdk.Scope") -> None:
    scope.set_tag("aftercommit.task", run.name)
    scope.set_tag("aftercommit.queue", run.queue)
    scope.set_context(
        "aftercommit",
        {
            "job_id": run.job_id,
            "attempt": run.attempt,
            "max_attempts": run.max_attempts,
            "backend": run.backend,
            "jobs_in_call": len(run.runs),
        },
    )


def _describe_span(run: JobRun, span: Span) -> None:
    span.set_data(SPANDATA.MESSAGING_SYSTEM, "aftercommit")
    span.set_data(SPANDATA.MESSAGING_DESTINATION_NAME, run.queue)
    span.set_data(SPANDATA.MESSAGING_MESSAGE_ID, run.job_id)
    span.set_data(SPANDATA.MESSAGING_MESSAGE_RETRY_COUNT, run.attempt - 1)
    latency = run.wait / timedelta(milliseconds=1)
    span.set_data(SPANDATA.MESSAGING_MESSAGE_RECEIVE_LATENCY, latency)


def _report(error: BaseException) -> None:
    client = sentry_sdk.get_client()
    event, hint = event_from_exception(
        error,
        client_options=client.options,
        mechanism={"type": "aftercommit", "handled": False},
    )
    sentry_sdk.capture_event(event, hint=hint)
    with suppress(Exception):  # of an exception without a __dict__, or with a wild __setattr__()
        setattr(error, REPORTED, True)


def one_event_for_a_failure(event: "Event", hint: "Hint") -> "Event | None":
    """Drop what repeats an event; an event processor for all of Sentry."""
    record = hint.get("log_record")
    if not isinstance(record, logging.LogRecord):
        return event
    if record.name == our_log.name:
        return None if getattr(record, "outcome", None) == FAILED else event
    if record.name not in DJANGO or record.levelno < logging.ERROR:
        return event
    error = record.exc_info[1] if record.exc_info else None
    # Without an exception it is the job of a process that died, of which our line says more.
    if error is None or getattr(error, REPORTED, False):
        return None
    if isinstance(record.args, tuple) and len(record.args) > 1:
        event["transaction"] = str(record.args[1])
    return event


add_global_event_processor(one_event_for_a_failure)

middleware = around(_transaction, headers=headers)


# ---- schedules -------------------------------------------------------------------------


def monitor_schedules(*, exclude: Collection[str] = ()) -> None:
    """Check in at Sentry for each schedule, as a monitor of that name; call it once, at start.

    ``exclude``: names of schedules. A monitor that Sentry does not know is made by the first
    check-in, with the cron expression or the interval of the schedule.
    """

    def check_in(
        status: str,
        using: str,
        schedule: str,
        moment: datetime,
        duration: timedelta | None,
        **_: Any,
    ) -> None:
        if status == "missed" or schedule in exclude:  # Sentry notices what does not begin
            return
        capture_checkin(
            monitor_slug=schedule.replace(".", "-"),
            check_in_id=uuid5(NAMESPACE_OID, f"{schedule} {moment}").hex,
            status=status,
            duration=None if duration is None else duration.total_seconds(),
            monitor_config=_monitor(schedule, using) if status == "in_progress" else None,
        )

    events.schedule_checked_in.connect(
        check_in, weak=False, dispatch_uid="aftercommit.integrations.sentry"
    )


def _monitor(name: str, using: str) -> "MonitorConfig | None":
    found = schedules.get(name, using)
    if found.every is None:
        monitor: MonitorConfig = {"schedule": {"type": "crontab", "value": found.cron or ""}}
        if found.timezone:
            monitor["timezone"] = found.timezone
        return monitor
    minutes, rest = divmod(found.every, timedelta(minutes=1))
    if rest or not minutes:  # Sentry counts in minutes
        return None
    return {"schedule": {"type": "interval", "value": minutes, "unit": "minute"}}
