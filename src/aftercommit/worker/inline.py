"""Runs due jobs in the calling thread: for ``flush_queue``, and for tests."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from uuid import UUID, uuid4

from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job, State
from aftercommit.options.checked import check_counts
from aftercommit.options.worker import WorkerConfig
from aftercommit.store.base import Store
from aftercommit.worker.config import Served, served
from aftercommit.worker.inline_alias import InlineAlias
from aftercommit.worker.paused_jobs import PausedJobs, paused_jobs
from aftercommit.worker.processes.orphans import Orphans
from aftercommit.worker.processes.silence import longest_silence
from aftercommit.worker.processes.supervisor import Supervisor
from aftercommit.worker.share import Share

logger = logging.getLogger("aftercommit")

DUE_AT_A_TIME = 1000  # due jobs read at a time, to find those of this worker's share
ROWS_AT_A_TIME = 100  # of them, to find those of a batch


class InlineWorker:
    """Claims one job at a time, so that several inline workers share the jobs evenly."""

    def __init__(
        self, *, share: Share | None = None, name: str = "", most: int | None = None
    ) -> None:
        if most is not None:
            check_counts(jobs=most)
        self._share = share or Share()
        self._name = name
        self._left = float("inf") if most is None else most
        self._worker_id = uuid4()
        self._alias: InlineAlias | None = None
        self._alone: Supervisor | None = None
        self._stopping = False
        self._left_alone: set[UUID] = set()  # jobs with crashes that could not be run
        self.left_paused: Sequence[PausedJobs] = ()  # due jobs that ``run()`` has left

    def run(self) -> int:
        """Run every due job of every backend; return the number of runs.

        Raises ``InsideTransaction`` before anything is done if this thread has a transaction
        open: each run closes the connections that are in one.
        """
        refuse_inside_transaction("flush_queue")
        serving = served(WorkerConfig())
        count = sum(self._run_alias(one) for one in serving)
        self.left_paused = paused_jobs(serving)
        return count

    def stop(self) -> None:
        """Stop after the present job; on the second call release the present job, too."""
        if self._alone is not None:
            self._alone.stop()
        if self._stopping and self._alias is not None:
            self._alias.release()
        self._stopping = True

    def _run_alias(self, one: Served) -> int:
        count = 0
        with InlineAlias(one, self._worker_id) as alias:
            self._alias = alias
            while self._left > 0 and not self._stopping and (ran := self._run_next(alias)):
                self._left -= ran
                count += ran
        return count

    def _run_next(self, alias: "InlineAlias") -> int:
        """Run the most urgent job of this worker's share; return how many runs it took."""
        looked_at, limit = set[UUID](), DUE_AT_A_TIME
        alias.full.clear()
        while True:
            found, full = alias.due(limit=limit, name=self._name), len(alias.full)
            for job_id in found:
                if self._share.holds(job_id) and job_id not in looked_at:
                    looked_at.add(job_id)
                    if ran := self._run_one(alias, job_id, found):
                        return ran
                if len(alias.full) > full:
                    break  # look for those of other queues
            else:
                if len(found) < limit:
                    return 0
                limit *= 2  # the jobs so far are of other shares or of unknown tasks

    def _run_one(self, alias: "InlineAlias", job_id: UUID, found: Sequence[UUID]) -> int:
        job = alias.store.job(job_id)
        if job is None or job_id in self._left_alone:
            return 0
        if known_task(job.task_path) is None:
            alias.unknown.add(job.task_path)
            return 0
        if not job.crashes:
            return alias.run([job, *self._batch_of(job, alias, found)])
        ran = self._run_in_process(job) if job.state == State.READY else 0
        if not ran:
            self._left_alone.add(job_id)  # a process costs a second
        return ran

    def _batch_of(self, job: Job, alias: "InlineAlias", found: Sequence[UUID]) -> list[Job]:
        """Return jobs of this worker's share that may be in the same call of the task."""
        size = min(option(known_task(job.task_path), "batch_size") or 1, self._left)
        if size <= 1 or has_failed(job):
            return []
        others = [one for one in found if one != job.id and self._share.holds(one)]
        fitting = (one for one in _read(alias.store, others) if may_join(one, job))
        return list(islice(fitting, int(size) - 1))

    def _run_in_process(self, job: Job) -> int:
        """Run a job with crashes in a child process, because it may kill its process again."""
        config = WorkerConfig(threads=1, drain=True, crashed=True, only=(str(job.id),))
        serving = served(config)
        orphans = Orphans(serving)
        try:
            self._alone = Supervisor(
                config, died=orphans, longest_silence=longest_silence(config, serving)
            )
        except ConfigurationError:
            logger.exception("Job %s was on a dead worker and runs only in a process", job.id)
            return 0
        if not self._stopping:
            self._alone.run()
            orphans.settle()
        done = self._alone.progress.done
        self._alone = None
        return done


def _read(store: Store, job_ids: Sequence[UUID]) -> Iterator[Job]:
    """Yield jobs in this order, as they are now; so many are read as are asked for."""
    for start in range(0, len(job_ids), ROWS_AT_A_TIME):
        page = job_ids[start : start + ROWS_AT_A_TIME]
        rows = {one.id: one for one in store.jobs(page)}
        yield from (rows[one] for one in page if one in rows)


def may_join(job: Job, first: Job) -> bool:
    """Return whether a job may be in the same call of its task as another one."""
    if (job.task_path, job.backend, job.queue) != (first.task_path, first.backend, first.queue):
        return False
    return job.state == State.READY and not job.crashes and not has_failed(job)


def has_failed(job: Job) -> bool:
    """Return whether a run of a job has failed: from then on it runs alone."""
    return bool(job.attempts > job.crashes)
