"""How one worker process shows that it lives, and hears of new jobs."""

import os
import select
import socket
from abc import ABC, abstractmethod
from datetime import timedelta
from uuid import UUID


class Presence(ABC):
    """A connection of its own that holds a session lock named after the worker.

    The lock ends with the process, however that ends, so anyone who finds it free knows
    at once that the worker is dead. Used by one thread; only ``interrupt()`` may be
    called from others.
    """

    def __init__(self, worker_id: UUID) -> None:
        self.worker_id = worker_id
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    @property
    @abstractmethod
    def locked(self) -> bool:
        """Whether the session lock is held."""

    @abstractmethod
    def wait(self, limit: timedelta) -> bool:
        """Wait for news, ``limit`` at most; True if new jobs were announced.

        Raises ``django.db.Error`` or ``OSError`` when the connection, and with it the
        lock, is gone.
        """

    def interrupt(self) -> None:
        """End the present ``wait()`` from another thread."""
        try:
            self._writer.send(b"!")
        except OSError:  # full of interrupts, or closed: either way nobody sleeps
            return

    def close(self) -> None:
        """Give the lock back."""
        self._reader.close()
        self._writer.close()

    def _select(self, limit: timedelta, *others: int) -> bool:
        """Wait for one of the file descriptors ``others``, or an interrupt."""
        waited: list[socket.socket | int] = [self._reader, *others]
        ready, _, _ = select.select(waited, [], [], limit.total_seconds())
        if self._reader in ready:
            self._reader.recv(4096)
        return any(other in ready for other in others)


def this_process() -> tuple[str, int]:
    """Return the host name and the process id, for people to read."""
    return socket.gethostname()[:255], os.getpid()
