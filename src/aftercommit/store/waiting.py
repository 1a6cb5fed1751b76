"""The end of a job, for those who wait for it: one question for all, and a notification."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from django.db import connections

from aftercommit.models import LIVE
from aftercommit.process import Bell
from aftercommit.store.table import Table

NOTHING: frozenset[UUID] = frozenset()


class Listener:
    """Waits for a moment, or until it is interrupted. Here nobody tells of the end of a job."""

    tells = False  # whether ends are told without being asked for

    def __init__(self) -> None:
        self._bell = Bell()

    def wait(self, limit: timedelta) -> Collection[UUID]:
        """Wait, ``limit`` at most; return the jobs that were said to have ended."""
        self._bell.wait(limit)
        return NOTHING

    def interrupt(self) -> None:
        """End the present wait, or the next one, from another thread."""
        self._bell.ring()

    def close(self) -> None:
        """Let go of what it holds."""


class Waiting(Table):
    """Tells which jobs have ended."""

    def ask_for_end(self, job_ids: Collection[UUID]) -> Collection[UUID]:
        """Let whoever ends these jobs say so, where the database can; see ``Listener``.

        Returns those whose end will be told. Of the others some may have ended, and some are
        locked: ask for them again.
        """
        return NOTHING

    def ended_among(self, job_ids: Collection[UUID]) -> set[UUID]:
        """Return those of these jobs that have ended, or have no row any more."""
        live = self._jobs.filter(id__in=job_ids, state__in=LIVE)
        return set(job_ids) - set(live.values_list("id", flat=True))

    def open_listener(self, *, listens: bool) -> Listener:
        """Return a listener for the calling thread; ``listens``: to NOTIFY, if there is one."""
        return Listener()

    def close_listener(self, listener: Listener) -> None:
        """Close a listener, and the calling thread's connection."""
        listener.close()
        connections[self.alias].close()
