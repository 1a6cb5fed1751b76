"""What all database aliases of one worker process share."""

from dataclasses import dataclass
from uuid import UUID

from aftercommit.worker.claiming.capacity import Capacity, FinishedCounter
from aftercommit.worker.claiming.prefetch import Prefetch
from aftercommit.worker.counts import Counts
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.recycling import JobsPerProcess
from aftercommit.worker.running.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessWide:
    """The threads, limits and counters of a worker process."""

    worker_id: UUID
    threads: int
    pool: Pool
    capacity: Capacity
    quota: RunQuota
    per_process: JobsPerProcess
    finished: FinishedCounter
    prefetch: Prefetch
    counts: Counts | None  # None: nobody wants to know
