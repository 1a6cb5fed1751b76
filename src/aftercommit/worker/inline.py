"""Runs due jobs in the calling thread: for ``flush_queue``, and for tests."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Self
from uuid import UUID, uuid4

from django.db import Error

from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.rates import rate_of
from aftercommit.enqueue.transactions import refuse_inside_transaction
from aftercommit.errors import ConfigurationError, Stopped
from aftercommit.models import Blocked, Job, State
from aftercommit.options.checked import check_counts
from aftercommit.options.worker import WorkerConfig
from aftercommit.process import Bell
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Released, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.config import Served, served
from aftercommit.worker.facts import TaskFacts
from aftercommit.worker.paused_jobs import PausedJobs, paused_jobs
from aftercommit.worker.processes.orphans import Orphans
from aftercommit.worker.processes.silence import longest_silence
from aftercommit.worker.processes.supervisor import Supervisor
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.running.failure import has_a
from aftercommit.worker.running.pool import end_after, tidy
from aftercommit.worker.running.timeouts import Timeouts
from aftercommit.worker.runs import Run, now
from aftercommit.worker.share import Share
from aftercommit.worker.upkeep.loop import LoopThread

logger = logging.getLogger("aftercommit")

DUE_AT_A_TIME = 1000  # due jobs read at a time, to find those of this worker's share
TO_JOIN = timedelta(seconds=2)
TO_LOOK_AROUND = timedelta(seconds=5)  # for rescues before the first claim
UNTIL_DATABASE_IS_BACK = timedelta(milliseconds=200)  # between two attempts to write an outcome


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
                    if ran := self._run_one(alias, job_id):
                        return ran
                if len(alias.full) > full:
                    break  # look for those of other queues
            else:
                if len(found) < limit:
                    return 0
                limit *= 2  # the jobs so far are of other shares or of unknown tasks

    def _run_one(self, alias: "InlineAlias", job_id: UUID) -> int:
        job = alias.store.job(job_id)
        if job is None or job_id in self._left_alone:
            return 0
        if known_task(job.task_path) is None:
            alias.unknown.add(job.task_path)
            return 0
        if not job.crashes:
            return int(alias.run(job))
        ran = self._run_in_process(job) if job.state == State.READY else 0
        if not ran:
            self._left_alone.add(job_id)  # a process costs a second
        return ran

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


def _is_interrupt(run: Run, result: RunResult) -> bool:
    """Return whether somebody has interrupted this thread, and so the caller, in the task."""
    error = result.exception
    return error is not None and run.interrupted_at is None and has_a(error, KeyboardInterrupt)


class InlineAlias:
    """One database alias of an inline worker, with presence, heartbeat and rescue."""

    def __init__(self, served: Served, worker_id: UUID) -> None:
        self._served = served
        self._worker_id = worker_id
        self.unknown: set[str] = set()  # paths of tasks that this process does not have
        self.full: set[str] = set()  # queues with a limit: others have all slots
        self._rooms = assemble(served, worker_id=worker_id, asked=self._look_for_requests)
        self._run: Run | None = None
        self._connections = ThreadConnections()
        self._bell = Bell()
        self._leaving = False
        self._loops = self._make_loops()

    def _make_loops(self) -> list[LoopThread]:
        using, rooms = self._served.using, self._rooms
        timeouts = Timeouts([rooms.runs], give_up=lambda _run: None)
        self._requests_loop = LoopThread(f"requests-{using}", rooms.requests.step)
        return [
            self._requests_loop,
            LoopThread(f"presence-{using}", rooms.presence.step, at_end=rooms.presence.sign_off),
            LoopThread(
                f"rescue-{using}",
                rooms.rescuer.step,
                on_trouble=lambda _error: rooms.rescuer.trouble(),
            ),
            LoopThread(
                f"heartbeat-{using}", rooms.heartbeat.step, at_end=rooms.heartbeat.end_leases
            ),
            LoopThread(f"timeouts-{using}", timeouts.step),
        ]

    def _look_for_requests(self) -> None:
        self._requests_loop.ring()

    def __enter__(self) -> Self:
        self._connections.__enter__()
        for loop in self._loops:
            loop.start()
        end = now() + TO_LOOK_AROUND.total_seconds()
        rooms = self._rooms
        while not (rooms.presence.announced and rooms.rescuer.settled) and now() < end:
            rooms.rescuer.looked.wait(timedelta(milliseconds=100))
        self._let_pass()
        return self

    def __exit__(self, *_: object) -> None:
        for loop in self._loops:
            loop.stop()
        self._rooms.presence.interrupt()
        for loop in self._loops:
            loop.join(TO_JOIN)
        self._connections.__exit__(None, None, None)

    @property
    def store(self) -> Store:
        """The store of the alias."""
        return self._rooms.store

    @property
    def executor(self) -> Executor:
        """The executor of the alias."""
        return self._rooms.executor

    def due(self, *, limit: int, name: str) -> list[UUID]:
        """Return due jobs; not those that this process is known to be unable to run."""
        self._rooms.fetcher.aside.bring_all_back()
        rules = self._rooms.rules
        return self.store.due(
            limit=limit,
            name=name,
            backends=self._served.known_backends,
            unknown=self.unknown | rules.paused_tasks,
            paused=rules.paused_queues | self.full | self._rooms.fetcher.closed.now,
        )

    def run(self, job: Job) -> bool:
        """Claim a job, run it and write its outcome; False if it could not be claimed."""
        claimed = self._claim(job)
        if claimed is None:
            return False
        self._run = run = self._rooms.runs.add(*claimed, self)
        try:
            self._connections.prepare()
            began = now()
            result = self.executor.run(run)
            took, self._run = now() - began, None
            tidy(self._connections)  # before the same connection writes the result
            interrupted = _is_interrupt(run, result)
            if interrupted and not result.recorded:
                result = replace(result, outcome=Released())
            run.end(result, took=took)
        except Exception as error:
            interrupted = False
            end_after(error, [run])
        finally:
            self._run = None
        if interrupted:
            raise KeyboardInterrupt
        return True

    def in_one_thread(self, number: int) -> AbstractContextManager[None]:
        """Return a block that changes nothing: one job at a time is claimed here."""
        return nullcontext()

    def ended(self, run: Run, result: RunResult) -> None:
        """Write the result; repeat the write until the database answers."""
        finisher = self._rooms.finisher
        finisher.put(run, result)
        while not finisher.empty and not self._leaving:
            try:
                finisher.write()
            except Error:
                self.store.connection.close()
                self._bell.wait(UNTIL_DATABASE_IS_BACK)
        if run.claim.limit_key is not None:
            self._rooms.passage.freed(run.claim)
            self._let_pass()

    def _let_pass(self) -> None:
        """Let parked jobs of limited tasks pass, so that they are due here."""
        with suppress(Error):  # the next run ends with another try
            self._rooms.let_pass()

    def release(self) -> None:
        """Release the present job by an interrupt. Safe in a signal handler."""
        run = self._run
        if run is None:
            # The body has ended and its outcome waits for the database. Do not wait for it:
            # the job is rescued when its lease ends.
            self._leaving = True
            self._bell.ring()
        else:
            run.interrupt(Stopped)

    def _claim(self, job: Job) -> tuple[Claim, TaskFacts] | None:
        """Claim a job if it is still due and its task is known."""
        ended, rules = self._rooms.leases.ended, self._rooms.rules
        closed = self._rooms.fetcher.closed
        query = ClaimQuery(
            queue=job.queue,
            limit=1,
            worker_id=self._worker_id,
            lease=self._served.options.lease,
            only=[job.id],
            crashed=False,
            limit_of=rules.limit_of,
            limited=rules.limited,
            at_once=rules.queue_limits.get(job.queue),
            rate_of=rate_of,
            line_met=self._rooms.rates.line_met,
            queue_rate=closed.rates.get(job.queue),
            queue_closed=closed.note,
            ended=ended,
        )
        if known_task(job.task_path) is None or closed.must_wait(job.queue):
            return None
        if job.blocked == Blocked.FAIR:  # whoever names a job does not wait for its turn
            self.store.out_of_line([job.id])
        claims = self.store.claim(query)
        self._rooms.leases.deleted(ended)
        if not claims:
            if query.at_once is not None and self.store.is_full(job.queue, query.at_once):
                self.full.add(job.queue)
            return None
        self._rooms.leases.opened(claims)
        facts = self._rooms.catalogue.facts_of(claims[0])
        if facts is not None:
            return claims[0], facts
        # Its backend is not one of TASKS.
        send_finished(self.store, self.store.finish_many([(claims[0], Released())]))
        self._rooms.leases.confirmed(claims[0])
        return None
