"""How runs and jobs ended: one line for each, with fields for logs that are read by programs."""

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.safe_log import log_line
from aftercommit.values import (
    NO_TIME,
    Cancelled,
    Claim,
    Failed,
    Outcome,
    Released,
    Retry,
    RunError,
    RunResult,
    Succeeded,
)
from aftercommit.wording import spoken

if TYPE_CHECKING:  # LOGGING may name this package, and is read before there are models
    from aftercommit.store.base import Rescued

logger = logging.getLogger("aftercommit")

FAILED = "failed"
BUILTIN = "builtins."


class Line(NamedTuple):
    """What is logged about the end of a run."""

    level: int
    said: str  # after the name of the task and the id of the job
    parts: tuple[object, ...]
    outcome: str  # one word
    error: RunError | None = None


def run_ended(claim: Claim, ran: RunResult, duration: timedelta | None = None, **_: Any) -> None:
    """Log how a run has ended."""
    line = _line(claim, ran.outcome, duration)
    if not logger.isEnabledFor(line.level):
        return
    fields = {
        "job_id": str(claim.job_id),
        "task": claim.task_path,
        "queue": claim.queue,
        "backend": claim.backend,
        "attempt": claim.attempt,
        "outcome": line.outcome,
        "duration": _seconds(duration),
        "wait": _seconds(max(claim.claimed_at - claim.run_after, NO_TIME)),
        **_fields_of(line.error),
    }
    write(
        line.level,
        f"%s %s {line.said}",
        claim.task_path,
        claim.job_id,
        *line.parts,
        fields=fields,
    )


def _line(claim: Claim, outcome: Outcome, duration: timedelta | None) -> Line:
    took = "" if duration is None else f" after {spoken(duration)}"
    match outcome:
        case Succeeded():
            took = "" if duration is None else f" in {spoken(duration)}"
            said = "succeeded in attempt %s%s"
            return Line(logging.DEBUG, said, (claim.attempt, took), "succeeded")
        case Retry(error, delay):
            said = "failed in attempt %s of %s%s: %s; runs again in %s"
            counts = (claim.failed_runs + 1, claim.max_attempts)
            told = (*counts, took, _told(error), spoken(delay))
            return Line(logging.WARNING, said, told, "retry", error)
        case Failed(error, discarded=True):
            return Line(
                logging.INFO, "was discarded%s: %s", (took, _told(error)), "discarded", error
            )
        case Failed(error):
            said = "failed for good in attempt %s of %s%s: %s"
            parts = (claim.failed_runs + 1, claim.max_attempts, took, _told(error))
            return Line(logging.ERROR, said, parts, FAILED, error)
        case Cancelled(error):
            why = "" if error is None else f": {_told(error)}"
            return Line(logging.INFO, "was cancelled%s%s", (took, why), "cancelled", error)
        case Released():
            return _released(claim, outcome)


def _released(claim: Claim, outcome: Released) -> Line:
    why = "a conflict in the database" if outcome.conflict else "it was not finished"
    when = f"in {spoken(outcome.delay)}" if outcome.delay else "at once"
    # Thousands of messages may be released; that their broker is away is logged once.
    level = logging.DEBUG if claim.queue.startswith(QUEUE_PREFIX) else logging.INFO
    said = "was released without counting an attempt (%s); due again %s"
    return Line(level, said, (why, when), "released")


def job_rescued(rescued: "Rescued", **_: Any) -> None:
    """Log that a run has ended with its worker; the job may have failed with it."""
    fields = {
        "job_id": str(rescued.job_id),
        "task": rescued.task_path,
        "outcome": "crashed",
        "crashes": rescued.crashes,
        "state": rescued.state,
    }
    write(
        logging.ERROR if rescued.state == FAILED else logging.WARNING,
        "%s %s was rescued from worker %s, which died or did not renew its lease (crash %s); "
        "it is %s",
        rescued.task_path,
        rescued.job_id,
        rescued.worker_id,
        rescued.crashes,
        rescued.state,
        fields=fields,
    )


def claim_lost(claim: Claim, **_: Any) -> None:
    """Log that the end of a run was not written."""
    fields = {"job_id": str(claim.job_id), "task": claim.task_path, "queue": claim.queue}
    write(
        logging.WARNING,
        "%s %s: its outcome came too late, the claim was lost. Nothing was written.",
        claim.task_path,
        claim.job_id,
        fields={**fields, "attempt": claim.attempt, "outcome": "lost"},
    )


def write(level: int, message: str, *parts: object, fields: dict[str, Any]) -> None:
    """Log a line with fields; without them if the project's record factory uses their names."""
    try:
        logger.log(level, message, *parts, extra=fields)
    except KeyError:
        log_line(level, message, *parts)


def _told(error: RunError) -> str:
    """Return the class of an exception, what it says, and where it was raised."""
    what = error.exception_class_path.removeprefix(BUILTIN)
    what = f"{what}: {error.message}" if error.message else what
    return f"{what} ({error.place})" if error.place else what


def _fields_of(error: RunError | None) -> dict[str, Any]:
    if error is None:
        return {}
    return {
        "exception": error.exception_class_path,
        "error": error.message,
        "place": error.place,
        "traceback": error.traceback,
    }


def _seconds(span: timedelta | None) -> float | None:
    return None if span is None else round(span.total_seconds(), 6)
