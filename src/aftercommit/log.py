"""The log of the worker: the only module that turns events into log lines."""

import logging
from typing import Any

from aftercommit import events
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.printable import ReadableLog
from aftercommit.store.base import Rescued
from aftercommit.values import Cancelled, Claim, Failed, Released, Retry, RunResult, Succeeded

logger = logging.getLogger("aftercommit")


def show_log() -> None:
    """Write the log of this command to the terminal, unless LOGGING has a handler for it."""
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(ReadableLog("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def write_log() -> None:
    """Log every event of this process, from now on; calling it twice changes nothing."""
    events.job_ended.connect(_job_ended, dispatch_uid=events.LOG_RECEIVER)
    events.claim_lost.connect(_claim_lost, dispatch_uid=events.LOG_RECEIVER)
    events.job_rescued.connect(_job_rescued, dispatch_uid=events.LOG_RECEIVER)
    events.database_away.connect(_database_away, dispatch_uid=events.LOG_RECEIVER)
    events.database_back.connect(_database_back, dispatch_uid=events.LOG_RECEIVER)
    events.worker_started.connect(_worker_started, dispatch_uid=events.LOG_RECEIVER)
    events.worker_stopped.connect(_worker_stopped, dispatch_uid=events.LOG_RECEIVER)


def _job_ended(claim: Claim, ran: RunResult, **_: Any) -> None:
    name, job_id = claim.task_path, claim.job_id
    match ran.outcome:
        case Succeeded():
            logger.debug("%s %s succeeded in attempt %s", name, job_id, claim.attempt)
        case Retry(error, delay):
            logger.warning(
                "%s %s failed in attempt %s of %s (%s); again in %s",
                name,
                job_id,
                claim.failed_runs + 1,
                claim.max_attempts,
                error.exception_class_path,
                delay,
            )
        case Failed(error):
            logger.error("%s %s failed for good: %s", name, job_id, error.exception_class_path)
        case Cancelled():
            logger.info("%s %s was cancelled", name, job_id)
        case Released(delay, conflict):
            why = "a conflict in the database" if conflict else "it was not finished"
            # Thousands of messages may be released; that their broker is away is logged once.
            level = logging.DEBUG if claim.queue.startswith(QUEUE_PREFIX) else logging.INFO
            logger.log(
                level,
                "%s %s was released without counting an attempt (%s); due again in %s",
                name,
                job_id,
                why,
                delay,
            )


def _claim_lost(claim: Claim, **_: Any) -> None:
    logger.warning(
        "%s %s: its outcome came too late, the claim was lost. Nothing was written.",
        claim.task_path,
        claim.job_id,
    )


def _job_rescued(rescued: Rescued, **_: Any) -> None:
    logger.warning(
        "%s %s was rescued from worker %s, which died or did not renew its lease (crash %s); "
        "it is %s",
        rescued.task_path,
        rescued.job_id,
        rescued.worker_id,
        rescued.crashes,
        rescued.state,
    )


def _database_away(using: str, error: Exception, **_: Any) -> None:
    # Only the class: a driver's message may contain the address and the user.
    logger.error("Database %r does not answer (%s); waiting for it", using, type(error).__name__)


def _database_back(using: str, **_: Any) -> None:
    logger.info("Database %r answers again", using)


def _worker_started(worker_id: Any, using: str, **_: Any) -> None:
    logger.info("Worker %s serves %r", worker_id, using)


def _worker_stopped(worker_id: Any, using: str, **_: Any) -> None:
    logger.info("Worker %s has left %r", worker_id, using)
