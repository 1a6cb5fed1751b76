"""The table of worker processes: which workers serve this database, and how they are seen."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, Max, Sum
from django.db.models.functions import Coalesce
from django.utils import timezone

from aftercommit.models import WorkerPresence
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.presence import this_process
from aftercommit.version import VERSION


class Colleague(NamedTuple):
    """A worker process that was alive a moment ago."""

    host: str
    pid: int
    version: str | None
    ahead: timedelta | None  # its clock, of the database's; None: an earlier version

    @property
    def name(self) -> str:
        """Its host and its number there."""
        return f"{self.host}:{self.pid}"


class Workers:
    """The rows of ``WorkerPresence`` in one database alias."""

    def __init__(self, alias: str) -> None:
        self._rows = WorkerPresence.objects.using(alias)

    def announce(
        self,
        worker_id: UUID,
        *,
        locked: bool,
        threads: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Write that a worker serves this database, and whether it holds its session lock.

        ``threads``: jobs that it runs at once; ``memory``: bytes that it occupies.
        """
        host, pid = this_process()
        given = {"host": host, "pid": pid, "locked": locked, "version": VERSION, **_now()}
        given |= {"threads": threads, "memory": memory}
        if not self._rows.filter(id=worker_id).update(**given):
            self._rows.create(id=worker_id, started_at=DatabaseNow(), **given)

    def seen(self, worker_id: UUID, *, memory: int | None = None) -> bool:
        """Write that a worker is alive; False if its row was deleted."""
        return bool(self._rows.filter(id=worker_id).update(**_now(), memory=memory))

    def forget(self, worker_ids: set[UUID]) -> None:
        """Delete the rows of workers that have ended."""
        if worker_ids:
            self._rows.filter(id__in=worker_ids).delete()

    def forget_silent(self, span: timedelta) -> None:
        """Delete the rows of workers that have not written for ``span``."""
        self._rows.filter(seen_at__lt=ago(span)).delete()

    def first(self, *, within: timedelta) -> UUID | None:
        """Return the worker that began first, of those seen within a span; None without any."""
        seen = self._rows.filter(seen_at__gte=ago(within)).order_by("started_at", "id")
        return seen.values_list("id", flat=True).first()

    def pruned(self, worker_id: UUID, *, jobs: int) -> None:
        """Write that a worker has just pruned, and how many jobs more it has deleted."""
        so_far = Coalesce(F("pruned"), 0)
        self._rows.filter(id=worker_id).update(pruned=so_far + jobs, pruned_at=DatabaseNow())

    def last_pruned(self) -> tuple[int, datetime | None]:
        """Return how many jobs the workers that are here have pruned, and when one last did."""
        found = self._rows.aggregate(jobs=Sum("pruned"), at=Max("pruned_at"))
        return found["jobs"] or 0, found["at"]

    def any(self) -> bool:
        """Return whether there is a row of a worker, however old."""
        return self._rows.exists()

    def count_seen(self, *, within: timedelta) -> int:
        """Return how many workers have written that they are alive within a span."""
        return self._rows.filter(seen_at__gte=ago(within)).count()

    def all(self, *, limit: int = 1000) -> list[WorkerPresence]:
        """Return the rows by host and process id, of dead workers as well for a while."""
        return list(self._rows.order_by("host", "pid", "id")[:limit])

    def seen_lately(self, *, within: timedelta) -> list[Colleague]:
        """Return those workers, by host and process id."""
        rows = self._rows.filter(seen_at__gte=ago(within)).order_by("host", "pid")
        return [
            Colleague(
                one.host,
                one.pid,
                one.version,
                None if one.clock is None else one.clock - one.seen_at,
            )
            for one in rows
        ]

    def clocks_of_locked(self) -> dict[UUID, datetime]:
        """Return the database's clock beside each worker that holds, or held, a session lock."""
        rows = self._rows.filter(locked=True).annotate(now=DatabaseNow())
        return dict(rows.values_list("id", "now"))


def _now() -> dict[str, Any]:
    """Return the present moment by both clocks."""
    return {"seen_at": DatabaseNow(), "clock": timezone.now()}
