"""Store: the contract that each database fulfils, put together from its subjects.

Each transition of a job (STATE_MACHINE: T0 to T10) is one method, and each of its
writes names the whole condition in its WHERE. The caller looks at what it returns.

=============  ===========================================================  ============
insert         ``insert``, ``insert_alike``                                 T0
claim          ``claim``, ``renew``                                         T1, T2
finish         ``finish``, ``finish_many``                                  T3-T5, T7, T8'
rescue         ``rescue``, ``release_unstarted``                                       T6
operations     ``cancel``, ``retry``, ``prune``                             T8-T10
reading        ``job``, ``due``, ``queues``, ``counts``, ``clock_and_workers`` …
=============  ===========================================================  ============
"""

from abc import abstractmethod
from uuid import UUID

from aftercommit.store.blame import WORKER_DIED
from aftercommit.store.claim import Claims
from aftercommit.store.finish import Finishing
from aftercommit.store.inbox import Inbox
from aftercommit.store.insert import Inserting, unique_lock
from aftercommit.store.operations import CancelAnswer, Operations, Retried
from aftercommit.store.presence import Presence
from aftercommit.store.reading import Reading
from aftercommit.store.rescue import Rescue, Rescued

__all__ = ["WORKER_DIED", "CancelAnswer", "Rescued", "Retried", "Store", "unique_lock"]


class Store(Inserting, Claims, Finishing, Rescue, Operations, Reading, Inbox):
    """The jobs of one database alias. Stateless; the connection is the calling thread's."""

    wakes_workers = False  # whether those that hold a session lock are told of new jobs

    @abstractmethod
    def open_presence(self, worker_id: UUID, *, session_locks: bool) -> Presence:
        """Hold the session lock of a worker process, if wanted; see ``Presence``."""

    @abstractmethod
    def free_locks(self, worker_ids: set[UUID]) -> set[UUID]:
        """Return those whose session lock nobody holds."""

    def forget(self, worker_ids: set[UUID]) -> None:
        """Forget dead workers, once their jobs are rescued."""
        self.workers.forget(worker_ids)
