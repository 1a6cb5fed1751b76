"""The signals that the worker sends, and what each carries.

Receivers are called by ``send()``: what one of them raises is logged and changes nothing
about the job. ``aftercommit.log`` is the receiver that writes the log.
"""

import builtins
import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.dispatch import Signal

logger = logging.getLogger("aftercommit")

LOG_RECEIVER = "aftercommit.log"  # dispatch_uid of the receivers that write the log
HANDLERS_KEPT = timedelta(milliseconds=50)  # what is known of the handlers of a log

# claim: Claim, ran: RunResult, duration: timedelta | None. How a run has ended is in the
# table. ``duration`` is that of the body, None if it did not begin.
job_ended = Signal()

# claim: Claim. The outcome came too late: the claim was lost meanwhile.
claim_lost = Signal()

# rescued: store.rescue.Rescued. A job was taken from a dead or silent worker.
job_rescued = Signal()

# using: str, error: Exception. The database of an alias stopped answering.
database_away = Signal()

# using: str. It answers again.
database_back = Signal()

# worker_id: UUID, using: str. A worker process serves an alias from now on.
worker_started = Signal()

# worker_id: UUID, using: str. It has ended in good order.
worker_stopped = Signal()


class Listeners:
    """Whether a signal has a receiver that does something: what it carries is not cheap to build.

    ``own`` is what identifies the built-in receiver, which only writes to ``log``: its
    ``dispatch_uid``, or the id of the function. Any other receiver counts always.
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
        """Tell; ``level`` is that of the line which the built-in receiver would write."""
        receivers = self._signal.receivers
        if receivers != self._receivers:
            self._receivers = list(receivers)
            self._others = builtins.any(one[0][0] != self._own for one in receivers)
        return self._others or (
            bool(receivers) and self._log.isEnabledFor(level) and self._writes(level)
        )

    def _writes(self, level: int) -> bool:
        if (now := time.monotonic()) > self._kept_until:
            self._kept_until = now + HANDLERS_KEPT.total_seconds()
            self._written.clear()
        if level not in self._written:
            self._written[level] = _is_written(self._log, level)
        return self._written[level]


def _is_written(log: logging.Logger, level: int) -> bool:
    """Tell whether any handler would write a record of this level.

    That the logger lets it pass is not enough: Django's own handlers drop almost all.
    """
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
    """Send a signal; whatever a receiver raises is logged.

    ``send_robust()`` alone lets SystemExit pass, which would end the sending thread.
    """
    try:
        signal.send_robust(sender=sender, **carried)
    except BaseException:
        logger.exception("A receiver of a signal raised what is no ordinary exception")
