"""What the runs of a job have noted, for those who hold its result."""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING
from uuid import UUID

from asgiref.sync import sync_to_async

from aftercommit.notes import JobProgress, LogEntry
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.store.base import Store


class JobLog:
    """The log lines of a job, the oldest first; read in pages, anew by each iteration.

    Works in ``for`` and ``async for``, and in ``{% for line in result.log %}``.
    """

    def __init__(self, job_id: UUID, *, using: str) -> None:
        self._job_id = job_id
        self._using = using

    def __iter__(self) -> Iterator[LogEntry]:
        place = 0
        while page := self._store.lines_of(self._job_id, after=place):
            yield from (entry for _place, entry in page)
            place = page[-1][0]

    async def __aiter__(self) -> AsyncIterator[LogEntry]:
        place = 0
        while page := await sync_to_async(self._store.lines_of)(self._job_id, after=place):
            for _place, entry in page:
                yield entry
            place = page[-1][0]

    def __len__(self) -> int:
        return self._store.count_lines(self._job_id)

    def last(self, number: int) -> list[LogEntry]:
        """Return the last lines, the oldest of them first."""
        return self._store.last_lines_of(self._job_id, limit=number)

    @property
    def _store(self) -> "Store":
        return store_for(self._using)


def progress_of(job_id: UUID, *, using: str) -> JobProgress | None:
    """Return how far a job is; None if its task has not said."""
    return store_for(using).progress_of([job_id]).get(job_id)
