"""Presence: how a worker process shows that it is alive, and is notified of new jobs."""

import os
import socket
from abc import ABC, abstractmethod
from datetime import timedelta
from uuid import UUID

from aftercommit.forked import keep_to_worker
from aftercommit.process import readable

# The channel by which workers hear that their running jobs are cancelled, where there is one.
REQUESTS = "aftercommit_requests"


class Presence(ABC):
    """A separate connection, or a file, that holds the session lock of a worker.

    The lock is released when the process ends, however it ends, so a worker that finds it
    free knows at once that the owner is dead. Used by one thread; only ``interrupt()`` may
    be called from other threads.
    """

    # A pooler gives each transaction another session: there is no lock, and no notification.
    pooled = False
    rules_changed = False  # a notification said so, since somebody has looked here

    def __init__(self, worker_id: UUID) -> None:
        self.worker_id = worker_id
        self._requests = False
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        for end in (self._reader, self._writer):
            keep_to_worker(end)

    @property
    @abstractmethod
    def locked(self) -> bool:
        """Whether the session lock is held."""

    @abstractmethod
    def wait(self, limit: timedelta) -> bool:
        """Wait for a notification, ``limit`` at most; True if new jobs were announced.

        Raises ``django.db.Error`` or ``OSError`` when the connection, and with it the
        lock, is lost.
        """

    def take_requests(self) -> bool:
        """Return whether running jobs of this worker may have been asked to stop meanwhile."""
        requests, self._requests = self._requests, False
        return requests

    def interrupt(self) -> None:
        """End the present ``wait()`` from another thread."""
        try:
            self._writer.send(b"!")
        except OSError:  # the buffer is full or closed: no thread waits
            return

    def close(self) -> None:
        """Release the session lock."""
        self._reader.close()
        self._writer.close()

    def _select(self, limit: timedelta, *others: int) -> bool:
        """Wait for one of the file descriptors ``others``, or an interrupt."""
        ready = readable(self._reader, *others, limit=limit)
        if self._reader in ready:
            self._reader.recv(4096)
        return any(other in ready for other in others)


def this_process() -> tuple[str, int]:
    """Return the host name and the process id, for display."""
    return socket.gethostname()[:255], os.getpid()
