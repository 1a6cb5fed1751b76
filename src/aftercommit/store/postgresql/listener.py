"""Hears by NOTIFY of the ends of jobs that somebody waits for."""

import socket
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from aftercommit.process import readable
from aftercommit.store.postgresql.presence import KEEPALIVES
from aftercommit.store.waiting import NOTHING, Listener


class PostgreSQLListener(Listener):
    """Listens on the connection by which its thread also asks: there is one for all waits."""

    tells = True

    def __init__(self, alias: str) -> None:
        super().__init__()
        # A connection of its own, not from a pool: another user of it would still listen.
        wrapper: Any = connections[alias].copy()
        options = wrapper.settings_dict["OPTIONS"]
        options.pop("pool", None)
        wrapper.settings_dict["OPTIONS"] = KEEPALIVES | options
        connections[alias].close()
        connections[alias] = wrapper
        self._wrapper = wrapper
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        with wrapper.wrap_database_errors:
            wrapper.ensure_connection()
            wrapper.connection.execute("LISTEN aftercommit_ended")

    def wait(self, limit: timedelta) -> Collection[UUID]:
        """Wait for NOTIFY; see ``Listener.wait``. Raises ``django.db.Error`` if it is lost."""
        with self._wrapper.wrap_database_errors:
            raw = self._wrapper.connection
            # First those that came together with the answer to a statement.
            found = list(raw.notifies(timeout=0)) or self._wait(raw, limit)
        return [job_id for one in found if (job_id := _id_in(one.payload))] or NOTHING

    def _wait(self, raw: Any, limit: timedelta) -> list[Any]:
        ready = readable(self._reader, raw.fileno(), limit=limit)
        if self._reader in ready:
            self._reader.recv(4096)
        if raw.fileno() not in ready:
            return []
        found = list(raw.notifies(timeout=0))
        if not found:  # perhaps the connection was closed
            raw.execute("SELECT 1")
        return found

    def interrupt(self) -> None:
        """See ``Listener.interrupt``."""
        with suppress(OSError):  # the buffer is full, so the wait ends anyway; or it is closed
            self._writer.send(b"!")

    def close(self) -> None:
        """Close the sockets; the connection is the thread's."""
        self._reader.close()
        self._writer.close()


def _id_in(payload: str) -> UUID | None:
    with suppress(ValueError):  # whoever may connect may notify
        return UUID(payload)
    return None
