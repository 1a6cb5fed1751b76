"""One database alias of an inline worker, in the thread of the caller."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Self
from uuid import UUID

from django.db import Error

from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.lookup import known_task
from aftercommit.errors import Stopped
from aftercommit.models import Blocked, Job
from aftercommit.process import Bell
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, Released, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.config import Served
from aftercommit.worker.facts import TaskFacts
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.running.failure import has_a
from aftercommit.worker.running.pool import end_after, tidy
from aftercommit.worker.running.timeouts import Timeouts
from aftercommit.worker.runs import Run, end_together, now
from aftercommit.worker.upkeep.finisher import Ends
from aftercommit.worker.upkeep.loop import LoopThread

TO_JOIN = timedelta(seconds=2)
TO_LOOK_AROUND = timedelta(seconds=5)  # for rescues before the first claim
UNTIL_DATABASE_IS_BACK = timedelta(milliseconds=200)  # between two attempts to write an outcome


def _is_interrupt(run: Run, result: RunResult) -> bool:
    """Return whether somebody has interrupted this thread, and so the caller, in the task."""
    error = result.exception
    return error is not None and run.interrupted_at is None and has_a(error, KeyboardInterrupt)


class InlineAlias:
    """One database alias of an inline worker, with presence, heartbeat and rescue."""

    # See ClaimQuery: jobs with crashes are run in a process of their own.
    _crashed: bool | None = False

    def __init__(
        self,
        served: Served,
        worker_id: UUID,
        *,
        recorded: Callable[[Ends], None] = lambda _ends: None,
    ) -> None:
        self._served = served
        self._worker_id = worker_id
        self.unknown: set[str] = set()  # paths of tasks that this process does not have
        self.full: set[str] = set()  # queues with a limit: others have all slots
        self._rooms = assemble(
            served, worker_id=worker_id, asked=self._look_for_requests, recorded=recorded
        )
        self._run: Run | None = None
        self._connections = ThreadConnections()
        self._bell = Bell()
        self._leaving = False
        self._loops = self._make_loops()

    def _make_loops(self) -> list[LoopThread]:
        using, rooms = self._served.using, self._rooms
        timeouts = Timeouts([rooms.runs], give_up=lambda _run: None)
        self._requests_loop = LoopThread(f"requests-{using}", rooms.requests.step)
        notes = self._notes_loop = LoopThread(
            f"notes-{using}", rooms.notes.step, at_end=rooms.notes.write_all
        )
        rooms.notes.ring = notes.begin  # its thread begins with the first note
        counts = self._counts_loop = LoopThread(
            f"statistics-{using}", rooms.statistics.step, at_end=rooms.statistics.flush_and_fold
        )
        rooms.statistics.ring = counts.begin  # the same, with the first job
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
        self._make_scheduled_jobs()
        return self

    def __exit__(self, *_: object) -> None:
        loops = [*self._loops, self._notes_loop, self._counts_loop]
        for loop in loops:
            loop.stop()
        self._rooms.presence.interrupt()
        for loop in loops:
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

    def run(self, jobs: Sequence[Job]) -> int:
        """Claim jobs, run them in one call and write their outcomes; return how many runs.

        Several only of one task with ``batch_size``. None if they could not be claimed.
        """
        claims = self._claim(jobs)
        if not claims:
            return 0
        runs = self._rooms.runs.add_all(claims, self)
        self._run = runs[0]
        interrupted = False
        try:
            self._connections.prepare()
            began = now()
            results = self._results(runs)
            took, self._run = (now() - began) / len(runs), None
            tidy(self._connections)  # before the same connection writes the results
            stopped = [run for run, result in results if _is_interrupt(run, result)]
            ends = [
                (run, replace(result, outcome=Released()))
                if run in stopped and not result.recorded
                else (run, result)
                for run, result in results
            ]
            end_together(ends, took=took)
            interrupted = bool(stopped)
        except Exception as error:
            end_after(error, runs)
        finally:
            self._run = None
            self._write(claims)
        if interrupted:
            raise KeyboardInterrupt
        return len(runs)

    def _results(self, runs: Sequence[Run]) -> Sequence[tuple[Run, RunResult]]:
        facts = runs[0].facts
        if facts.batch is not None and facts.group is not None:
            return facts.group.run(runs, lambda _runs: nullcontext())
        return [(runs[0], self.executor.run(runs[0]))]

    def in_one_thread(self, _runs: Sequence[Run]) -> AbstractContextManager[None]:
        """Return a block that changes nothing: one call at a time is made here."""
        return nullcontext()

    def ended(self, ends: Ends) -> None:
        """Keep results, to be written together."""
        self._rooms.finisher.put_all(ends)

    def _write(self, claims: Sequence[tuple[Claim, TaskFacts]]) -> None:
        """Write the results of a call; repeat the write until the database answers."""
        finisher = self._rooms.finisher
        while not finisher.empty and not self._leaving:
            try:
                finisher.write()
            except Error:
                self.store.connection.close()
                self._bell.wait(UNTIL_DATABASE_IS_BACK)
        limited = [claim for claim, _facts in claims if claim.limit_key is not None]
        for claim in limited:
            self._rooms.passage.freed(claim)
        if limited:
            self._let_pass()

    def _let_pass(self) -> None:
        """Let parked jobs of limited tasks pass, so that they are due here."""
        with suppress(Error):  # the next run ends with another try
            self._rooms.let_pass()

    def _make_scheduled_jobs(self) -> None:
        """Make the jobs of schedules that are due, so that they are due here."""
        with suppress(Error):  # workers make them, or the next call
            while not self._rooms.scheduler.step():
                pass

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

    def _claim(self, jobs: Sequence[Job]) -> list[tuple[Claim, TaskFacts]]:
        """Claim jobs of a task, those that are still due, if the task is known."""
        job = jobs[0]
        ended, rules = self._rooms.leases.ended, self._rooms.rules
        closed = self._rooms.fetcher.closed
        query = ClaimQuery(
            queue=job.queue,
            limit=len(jobs),
            worker_id=self._worker_id,
            lease=self._served.options.lease,
            only=[one.id for one in jobs],
            crashed=self._crashed,
            limit_of=rules.limit_of,
            limited=rules.limited,
            at_once=rules.queue_limits.get(job.queue),
            rate_of=rules.rates.rate_of,
            rated=rules.rates.keys,
            line_met=self._rooms.rates.line_met,
            queue_rate=rules.rates.of_queues.get(job.queue),
            queue_closed=closed.note,
            ended=ended,
        )
        if known_task(job.task_path) is None or closed.must_wait(job.queue):
            return []
        if in_line := [one.id for one in jobs if one.blocked == Blocked.FAIR]:
            self.store.out_of_line(in_line)  # whoever names a job does not wait for its turn
        claims = self.store.claim(query)
        self._rooms.leases.deleted(ended)
        if not claims:
            if query.at_once is not None and self.store.is_full(job.queue, query.at_once):
                self.full.add(job.queue)
            return []
        self._rooms.leases.opened(claims)
        self._rooms.statistics.claimed([claim.queue for claim in claims])
        facts = self._rooms.catalogue.facts_of(claims[0])
        if facts is not None:
            return [(claim, facts) for claim in claims]
        # Its backend is not one of TASKS.
        released = [(claim, Released()) for claim in claims]
        send_finished(self.store, self.store.finish_many(released))
        for claim in claims:
            self._rooms.leases.confirmed(claim)
        return []
