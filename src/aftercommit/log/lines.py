"""The log of a worker: the only module that connects events to log lines."""

import logging
from datetime import UTC, datetime
from typing import Any

from aftercommit import events
from aftercommit.log.ends import claim_lost, job_rescued, run_ended
from aftercommit.log.mail import spare_admins
from aftercommit.printable import ReadableLog

logger = logging.getLogger("aftercommit")


def show_log() -> None:
    """Write the log of this command to the terminal, unless LOGGING has a handler for it."""
    # By default LOGGING disables loggers that it does not name and that settings have made.
    logger.disabled = False
    if not logger.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(ReadableLog("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def write_log() -> None:
    """Log every event of this process, from now on; calling it twice changes nothing."""
    spare_admins()
    events.job_ended.connect(run_ended, dispatch_uid=events.LOG_RECEIVER)
    events.claim_lost.connect(claim_lost, dispatch_uid=events.LOG_RECEIVER)
    events.job_rescued.connect(job_rescued, dispatch_uid=events.LOG_RECEIVER)
    events.database_away.connect(_database_away, dispatch_uid=events.LOG_RECEIVER)
    events.database_back.connect(_database_back, dispatch_uid=events.LOG_RECEIVER)
    events.jobs_pruned.connect(jobs_pruned, dispatch_uid=events.LOG_RECEIVER)
    events.schedule_ticked.connect(_schedule_ticked, dispatch_uid=events.LOG_RECEIVER)
    events.worker_started.connect(_worker_started, dispatch_uid=events.LOG_RECEIVER)
    events.worker_stopped.connect(_worker_stopped, dispatch_uid=events.LOG_RECEIVER)


def _database_away(using: str, error: Exception, **_: Any) -> None:
    # Only the class: a driver's message may contain the address and the user.
    logger.error("Database %r does not answer (%s); waiting for it", using, type(error).__name__)


def _database_back(using: str, **_: Any) -> None:
    logger.info("Database %r answers again", using)


def jobs_pruned(using: str, jobs: int, protected: int, notes: int, **_: Any) -> None:
    """Say how many rows were deleted."""
    logger.info(
        "Database %r: deleted %s ended jobs and %s notes of the inbox whose time was over "
        "(OPTIONS['keep_result'])",
        using,
        jobs,
        notes,
    )
    if protected:
        logger.warning(
            "Database %r: %s ended jobs whose time is over are kept, because rows of other "
            "models point at them and refuse (on_delete=PROTECT)",
            using,
            protected,
        )


def _schedule_ticked(
    schedule: str, moment: datetime, job_id: Any, missed: int, reason: str, **_: Any
) -> None:
    at = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    if job_id is None:
        logger.warning("Schedule %r: no job for %s: %s", schedule, at, reason)
    else:
        logger.debug("Schedule %r: job %s for %s", schedule, job_id, at)
    if missed:
        logger.warning("Schedule %r: %s moments were missed up to %s", schedule, missed, at)


def _worker_started(worker_id: Any, using: str, **_: Any) -> None:
    logger.info("Worker %s serves the database %r", worker_id, using)


def _worker_stopped(worker_id: Any, using: str, **_: Any) -> None:
    logger.info("Worker %s has left the database %r", worker_id, using)
