"""Deletes ended jobs after their archives have got them: what workers and ``prune`` do alike."""

from collections.abc import Sequence

from aftercommit.enqueue.retention import Archive, Retention
from aftercommit.errors import ArchiveFailed
from aftercommit.store.base import Store
from aftercommit.store.pruning import EndedJob

BATCH_TO_ARCHIVE = 100  # these are read whole, and may have 2 MiB each
MOST_REFUSED = 3  # jobs that an archive refuses one by one before it is left alone for a batch


class Deleting:
    """Deletes batches of one database alias, and counts what became of them."""

    def __init__(self, store: Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention
        self.jobs = self.protected = 0
        self.refused: list[ArchiveFailed] = []  # of one job each

    def delete(self, ended: Sequence[EndedJob]) -> None:
        """Delete a batch; each archive gets its jobs, in the transaction that deletes them.

        A job that an archive refuses stays, and does not keep the others.
        """
        for archive, jobs in self._retention.by_archive(ended):
            size = len(jobs) if archive is None else BATCH_TO_ARCHIVE
            since = len(self.refused)
            for start in range(0, len(jobs), size):
                self._delete_accepted(archive, jobs[start : start + size], since=since)

    def _delete_accepted(
        self, archive: Archive | None, jobs: Sequence[EndedJob], *, since: int
    ) -> None:
        """Delete jobs; of those that are refused together, the halves, down to one job."""
        if len(self.refused) - since >= MOST_REFUSED:
            return
        try:
            deleted = self._store.delete_ended(jobs, archive=archive)
        except ArchiveFailed as error:
            if len(jobs) == 1:
                self.refused.append(error)
                return
            half = len(jobs) // 2
            for some in (jobs[:half], jobs[half:]):
                self._delete_accepted(archive, some, since=since)
            return
        self.jobs += deleted.jobs
        self.protected += deleted.protected
