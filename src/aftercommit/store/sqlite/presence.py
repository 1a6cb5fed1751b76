"""Presence on SQLite: a locked file beside the database, and polling."""

import contextlib
import logging
from datetime import timedelta
from pathlib import Path
from typing import IO
from uuid import UUID

from aftercommit.forked import keep_to_worker
from aftercommit.store.presence import Presence

logger = logging.getLogger("aftercommit")

try:
    import fcntl
except ImportError:  # Windows: without session locks, the leases have to do
    fcntl = None  # type: ignore[assignment]


class SQLitePresence(Presence):
    """Locks ``<database>-workers/<worker>.lock``; the kernel unlocks it when the process ends."""

    def __init__(self, database: str, worker_id: UUID, *, session_locks: bool) -> None:
        super().__init__(worker_id)
        self._database = database
        self._file: IO[bytes] | None = None
        if session_locks and fcntl is not None and Path(database).is_file():
            try:
                self._file = _locked_file(_lock_path(database, worker_id))
            except OSError as error:  # no right to write there, a full disk, no locks over NFS
                logger.warning(
                    "The lock file of this worker cannot be made (%s). It works, but others see "
                    "that it is dead only when its leases end. Let its user write beside the "
                    "database, or set OPTIONS['session_locks'] to False",
                    error,
                )

    @property
    def locked(self) -> bool:
        """Whether the file is locked."""
        return self._file is not None

    def wait(self, limit: timedelta) -> bool:
        """Wait; on SQLite there is no notification of new jobs."""
        self._select(limit)
        return False

    def close(self) -> None:
        """Unlock and remove the file."""
        if self._file is not None:
            remove_lock(self._database, self.worker_id)
            self._file.close()
        super().close()


def _locked_file(path: Path) -> IO[bytes]:
    path.parent.mkdir(exist_ok=True)
    file = path.open("wb")
    keep_to_worker(file)  # a child would hold the lock when the worker is dead
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError:
        file.close()
        raise
    return file


def lock_is_free(database: str, worker_id: UUID) -> bool:
    """Return whether no process holds a worker's lock file, or the file does not exist."""
    if fcntl is None:
        return False
    path = _lock_path(database, worker_id)
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return True
    except OSError:  # it is locked, or this user may not know: then the leases tell
        return False
    return True


def remove_lock(database: str, worker_id: UUID) -> None:
    """Remove the file of a worker that is known to be dead, and an empty folder."""
    path = _lock_path(database, worker_id)
    with contextlib.suppress(OSError):  # of another user; or not empty: other workers are alive
        path.unlink(missing_ok=True)
        path.parent.rmdir()


def _lock_path(database: str, worker_id: UUID) -> Path:
    return Path(f"{database}-workers") / f"{worker_id.hex}.lock"
