"""The signals that the worker sends, and what each carries.

Receivers are called by ``send()``: an exception of a receiver is logged and does not change
the job. ``aftercommit.log`` contains the receivers that write the log.
"""

import builtins
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.dispatch import Signal

from aftercommit.safe_log import log_error

logger = logging.getLogger("aftercommit")

LOG_RECEIVER = "aftercommit.log"  # dispatch_uid of the receivers that write the log
HANDLERS_KEPT = timedelta(milliseconds=50)  # how long the levels of a log's handlers are cached

# claim: Claim, ran: RunResult, duration: timedelta | None. A run has ended and its outcome is
# in the table. ``duration`` is that of the body, None if it did not begin.
job_ended = Signal()

# claim: Claim. The outcome of a run was not written, because its claim was lost.
claim_lost = Signal()

# rescued: store.rescue.Rescued. A job was rescued from a dead or silent worker.
job_rescued = Signal()

# using: str, ended: list[Ended]. Jobs that waited for others were cancelled or failed, because
# one of those did not succeed.
waiting_ended = Signal()

# using: str, error: Exception. The database of an alias stopped answering.
database_away = Signal()

# using: str. The database of an alias answers again.
database_back = Signal()

# using: str, jobs: int, protected: int, notes: int. Ended jobs, and notes of the inbox, were
# deleted because their time is over; ``protected`` jobs are kept by rows of other models.
jobs_pruned = Signal()

# using: str, schedule: str, moment: datetime, job_id: UUID | None, late: timedelta, missed: int,
# reason: str. A moment of a schedule was decided, and that is committed. Without ``job_id`` there
# is no job, and ``reason`` says why; ``missed``: earlier moments that were left out.
schedule_ticked = Signal()

# status: "in_progress", "ok", "error" or "missed", using: str, schedule: str, moment: datetime,
# job_id: UUID | None, attempt: int, duration: timedelta | None. For monitors of periodic tasks: a
# job of a schedule has begun or ended, or its moment passed without a job.
schedule_checked_in = Signal()

# worker_id: UUID, using: str. A worker process serves an alias from now on.
worker_started = Signal()

# worker_id: UUID, using: str. A worker process has ended gracefully.
worker_stopped = Signal()


class Listeners:
    """Whether a signal has a receiver that does something, because its values are slow to build.

    ``own`` identifies the built-in receiver, which only writes to ``log``: its
    ``dispatch_uid``, or the id of the function. Every other receiver always counts.
    """

    def __init__(self, signal: Signal, *, log: logging.Logger, own: object) -> None:
        self._signal = signal
        self._log = log
        self._own = own
        self._receivers: list[Any] = []
        self._others = False
        self._written: dict[int, bool] = {}
        self._kept_until = float("-inf")

    def any(self, level: int) -> bool:
        """Return it; ``level`` is that of the line which the built-in receiver would write."""
        return self.has_others or (
            bool(self._receivers) and self._log.isEnabledFor(level) and self._writes(level)
        )

    @property
    def has_others(self) -> bool:
        """Whether there is a receiver besides the built-in one."""
        receivers = self._signal.receivers
        if receivers != self._receivers:
            self._receivers = list(receivers)
            self._others = builtins.any(one[0][0] != self._own for one in receivers)
        return self._others

    def _writes(self, level: int) -> bool:
        if (now := time.monotonic()) > self._kept_until:
            self._kept_until = now + HANDLERS_KEPT.total_seconds()
            self._written.clear()
        written = self._written.get(level)  # once: another thread may clear it at any time
        if written is None:
            written = self._written[level] = _is_written(self._log, level)
        return written


def _is_written(log: logging.Logger, level: int) -> bool:
    """Return whether any handler would write a record of this level.

    The level of the logger is not enough: Django's own handlers drop almost all records. If a
    filter of the project raises, the record is built, and the filter raises where it is logged.
    """
    with suppress(Exception):
        return _passes_filters(log, level)
    return True


def _passes_filters(log: logging.Logger, level: int) -> bool:
    record = log.makeRecord(log.name, level, __file__, 0, "", (), None)
    return bool(log.filter(record)) and any(
        level >= handler.level and handler.filter(record) for handler in _handlers(log)
    )


def _handlers(log: logging.Logger | None) -> Iterator[logging.Handler]:
    found = False
    while log is not None:
        found = found or bool(log.handlers)
        yield from log.handlers
        log = log.parent if log.propagate else None
    if not found and logging.lastResort is not None:
        yield logging.lastResort


def send(signal: Signal, *, sender: object, **carried: Any) -> None:
    """Send a signal; any exception of a receiver is logged.

    ``send_robust()`` alone does not catch SystemExit, which would end the sending thread.
    """
    try:
        signal.send_robust(sender=sender, **carried)
    except BaseException as error:
        log_error(
            "A receiver of a signal raised an exception that is not an Exception", error=error
        )
