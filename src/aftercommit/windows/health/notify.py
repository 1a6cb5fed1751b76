"""Tells systemd that a worker has started, stops, and is alive: ``Type=notify``."""

import os
import socket
from contextlib import suppress
from datetime import timedelta

from aftercommit.printable import one_line
from aftercommit.worker.processes.report import WorkerReport
from aftercommit.worker.runs import now

LONGEST_STATUS = 300  # characters


class Notifier:
    """Sends datagrams to ``NOTIFY_SOCKET``; nothing where systemd has not started the worker.

    ``READY=1`` when all processes claim jobs, ``STOPPING=1`` at a stop, and ``WATCHDOG=1`` at
    half of ``WatchdogSec=`` as long as the worker is alive: not while only a new one would help.
    """

    def __init__(self) -> None:
        # Not for the programs that tasks start: the unit has one main process.
        self._address = os.environ.pop("NOTIFY_SOCKET", "")
        self._ping_every = _watchdog(
            os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        )
        self._next_ping = 0.0
        self._ready = self._stopping = False
        self._status = ""

    def tell(self, report: WorkerReport) -> None:
        """Tell what has changed; does not wait for systemd."""
        if not self._address:
            return
        reasons = report.why_not_ready()
        words = []
        if not reasons and not self._ready:
            words.append("READY=1")
        if report.stopping and not self._stopping:
            words.append("STOPPING=1")
        status = one_line("; ".join(reasons) or "claims jobs")[:LONGEST_STATUS]
        if status != self._status:
            words.append(f"STATUS={status}")
        pings = self._ping_is_due and not report.why_not_alive()
        if pings:
            words.append("WATCHDOG=1")
        if not words or not self._send("\n".join(words)):
            return
        self._ready |= not reasons
        self._stopping |= report.stopping
        self._status = status
        if pings and self._ping_every is not None:
            self._next_ping = now() + self._ping_every.total_seconds()

    @property
    def _ping_is_due(self) -> bool:
        return self._ping_every is not None and now() >= self._next_ping

    def _send(self, text: str) -> bool:
        address = self._address
        if address.startswith("@"):
            address = f"\0{address[1:]}"
        with (
            suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as one,
        ):
            one.setblocking(False)
            one.sendto(text.encode(), address)
            return True
        return False


def _watchdog(microseconds: str, pid: str) -> timedelta | None:
    """Return how often systemd is to hear of this process; None: it does not want to."""
    if not microseconds.isdigit() or pid not in {"", str(os.getpid())}:
        return None
    return timedelta(microseconds=int(microseconds)) / 2
