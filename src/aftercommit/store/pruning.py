"""T10 by rules: pages of the table in the order of ids, and the deletion of ended jobs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, NamedTuple
from uuid import UUID

from django.db import IntegrityError
from django.db.models import ProtectedError, RestrictedError
from django.db.models.deletion import Collector
from django.db.models.expressions import RawSQL
from django.utils import timezone

from aftercommit.errors import ArchiveFailed
from aftercommit.ids import first_id_of
from aftercommit.models import FINISHED, Job, State
from aftercommit.options.backoff import LONGEST_WAIT
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.deleted_members import DeletedMembers
from aftercommit.store.notes import Notes

FIRST_ID = UUID(int=0)
READ = ("id", "backend", "task_path", "state", "finished_at", DatabaseNow())
# Not "id": SQLite would sort the values by the checked id that it is asked for.
BY_ID = RawSQL("aftercommit_job.id", ())
# A row of the user's models points at a job, and its on_delete or the database refuses.
Refused = (ProtectedError, RestrictedError, IntegrityError)
Archive = Callable[[list[Job]], object]
Found = Mapping[UUID, datetime]  # jobs, and when they finished


class EndedJob(NamedTuple):
    """A job that has ended, as it was read."""

    job_id: UUID
    backend: str
    task_path: str
    state: str
    finished_at: datetime
    age: timedelta  # since it finished, by the database's clock


class Page(NamedTuple):
    """A part of the table in the order of ids."""

    ended: list[EndedJob]
    last: UUID  # where the next page begins
    is_full: bool  # there may be a next page


class Deleted(NamedTuple):
    """How many jobs were deleted, and how many are kept by rows of the user's models."""

    jobs: int
    protected: int


class Pruning(DeletedMembers, Notes):
    """Reads and deletes ended jobs, for rules that this room does not know.

    No index names what changes when a job ends, so there is none of ended jobs. Ids are in the
    order of time: whoever remembers the last id of a page reads each row once.
    """

    def page(self, *, after: UUID, older_than: timedelta, limit: int) -> Page:
        """Return the ended ones among the next ``limit`` jobs that were made before a span."""
        end = first_id_of(timezone.now() - min(older_than, LONGEST_WAIT))
        rows = self._jobs.filter(id__gt=after, id__lt=end).order_by(BY_ID)
        # No objects: they would cost more than all the rest that this process does here.
        read = list(rows.values_list(*READ)[:limit])
        # What is no UUID (SQLite takes any value) is None.
        ids = [row[0] for row in read if row[0] is not None]
        last = ids[-1] if ids else after
        return Page(ended_among(read), last, len(read) == limit and last != after)

    def delete_ended(
        self, ended: Sequence[EndedJob], *, archive: Archive | None = None
    ) -> Deleted:
        """Delete those of these jobs that are as they were read, in one transaction.

        Rows that others have locked are skipped. ``archive`` gets the jobs in the transaction,
        before the DELETE; if it raises, ``ArchiveFailed`` is raised, and nothing is deleted.

        Rows of the user's models that point at a job follow their ``on_delete``. If that
        refuses, the others are deleted nevertheless, in several transactions.
        """
        found = {one.job_id: one.finished_at for one in ended}
        return self._delete_possible(found, archive) if found else Deleted(0, 0)

    def _delete_possible(self, found: Found, archive: Archive | None) -> Deleted:
        try:
            jobs = self._after_deadlock(partial(self._delete_unchanged, found, archive))
            return Deleted(jobs, 0)
        except Refused:
            if len(found) == 1:
                return Deleted(0, 1)
        items = iter(found.items())
        halves = [dict(islice(items, len(found) // 2)), dict(items)]
        done = [self._delete_possible(half, archive) for half in halves]
        return Deleted(sum(one.jobs for one in done), sum(one.protected for one in done))

    def _delete_unchanged(self, found: Found, archive: Archive | None) -> int:
        with self._write():
            chosen = self._jobs.filter(id__in=found, state__in=FINISHED).order_by("id")
            rows = self._locked_to_delete(chosen)
            jobs = [] if archive is None else list(rows)
            read = [(job.id, job.finished_at, job.needed, job.state) for job in jobs]
            if archive is None:
                read = list(rows.values_list("id", "finished_at", "needed", "state"))
            # Not a job that was retried and has finished again in the meantime.
            read = [row for row in read if row[1] == found[row[0]]]
            kept = self._kept([row[0] for row in read if row[3] == State.SUCCEEDED])
            read = [row for row in read if row[0] not in kept]
            gone = [job_id for job_id, *_others in read]
            if archive is not None:
                self._archive([job for job in jobs if job.id in set(gone)], archive)
            self._deleting({job_id: state for job_id, _at, needed, state in read if needed})
            _all, by_model = self._jobs.filter(id__in=gone, state__in=FINISHED).delete()
            self.delete_notes(gone)
            return by_model.get(Job._meta.label, 0)

    def _archive(self, jobs: list[Job], archive: Archive) -> None:
        if not jobs:
            return
        # Raises if a row of the user's protects a job: that one must not be archived.
        Collector(using=self.alias).collect(jobs)
        try:
            archive(jobs)
        except Exception as error:
            raise ArchiveFailed(jobs=len(jobs)) from error


def ended_among(read: Iterable[Any]) -> list[EndedJob]:
    """Return those of the rows, read by ``values_list(*READ)``, that have ended."""
    return [
        EndedJob(job_id, backend, task_path, state, finished_at, now - finished_at)
        for job_id, backend, task_path, state, finished_at, now in read
        if state in FINISHED and finished_at
    ]
