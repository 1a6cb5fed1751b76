"""What a worker says of itself: to a probe over HTTP, and to systemd."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aftercommit.windows.health.notify import Notifier
from aftercommit.windows.health.port import HealthPort, check_free
from aftercommit.worker.counts import Row
from aftercommit.worker.processes.report import WorkerReport

__all__ = ["Health"]


class Health:
    """Passes on how a worker is, to those who want to know.

    Raises ``ConfigurationError`` if the port cannot be had.
    """

    def __init__(self, address: tuple[str, int] | None) -> None:
        self._address = address
        self._tellers: list[Callable[[WorkerReport], None]] = [Notifier().tell]
        self._port: HealthPort | None = None
        if address is not None:
            check_free(address)

    def tell(self, report: WorkerReport) -> None:
        """Pass a report on; returns at once."""
        for tell in self._tellers:
            tell(report)

    def count(self, rows: list[Row]) -> None:
        """Pass on what a process has counted; returns at once."""
        if self._port is not None:
            self._port.count(rows)

    @contextmanager
    def served(self, *, may_fork: bool) -> Iterator[None]:
        """Serve the port while the block runs."""
        if self._address is None:
            yield
            return
        port = self._port = HealthPort(self._address, may_fork=may_fork)
        self._tellers.append(port.tell)
        try:
            yield
        finally:
            port.end()
