"""The threads that run tasks, and the one event loop for async tasks."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context
from datetime import timedelta

from django.db import Error, connections

from aftercommit.enqueue.policy import Policy
from aftercommit.safe_log import log_error
from aftercommit.values import NO_TIME, Outcome, Released, RunResult
from aftercommit.worker.facts import GroupRunner
from aftercommit.worker.in_flight import InFlight
from aftercommit.worker.own_threads import unobserved
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.failure import readable
from aftercommit.worker.running.masking import hidden
from aftercommit.worker.running.outcome import outcome_of
from aftercommit.worker.running.queue import RunQueue
from aftercommit.worker.runs import Run, end_together, now

RELEASED = RunResult(outcome=Released())
AFTER_ERROR = timedelta(seconds=5)  # delay of a job whose run could not begin


class Pool:
    """Runs jobs, ``threads`` at once: sync tasks in threads, async tasks in an event loop.

    With ``here`` the one thread for sync tasks is the one that calls ``work_here()``.
    """

    def __init__(
        self,
        threads: int,
        *,
        board: InFlight | None = None,
        check: Callable[[], None] = lambda: None,
        here: bool = False,
    ) -> None:
        self._size = threads
        self._check = check  # called after each body
        self._board = board or InFlight(bytearray(InFlight.size(threads)))
        self._queue = RunQueue(threads=threads)
        self._running = 0
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._threads = [
            threading.Thread(target=self._work, name=f"aftercommit-task-{number}", daemon=True)
            for number in range(0 if here else threads)
        ]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_lock = threading.Lock()
        self._stopped = False

    def start(self) -> None:
        """Start the threads; the event loop starts with the first async task."""
        for thread in self._threads:
            thread.start()

    def work_here(self) -> None:
        """Run jobs in the calling thread until ``let_go()`` or ``stop()``."""
        self._work()

    def let_go(self) -> None:
        """Let idle threads end, and each of the others after its present job."""
        with self._lock:
            self._stopped = True
            self._changed.notify_all()

    def submit(self, runs: Sequence[Run]) -> None:
        """Queue runs, in their order; the thread that runs a job also ends its run."""
        with self._lock:
            self._queue.add(runs)
            self._changed.notify(len(runs))

    @property
    def waiting(self) -> int:
        """How many runs wait for a thread."""
        return len(self._queue)

    def unstarted(self, *, held_for: timedelta = NO_TIME) -> list[Run]:
        """Remove and return the waiting runs, if the oldest was claimed that long ago."""
        with self._lock:
            oldest = self._queue.oldest
            since = now() if oldest is None else oldest.held_since
            if now() - since < held_for.total_seconds():
                return []
            return self._queue.clear(filling=not held_for)

    def stop(self, limit: timedelta) -> None:
        """End the idle threads; a thread that is stuck in a task is left alone."""
        self.let_go()
        for thread in self._threads:
            thread.join(limit.total_seconds() / len(self._threads))
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _work(self) -> None:
        with unobserved(), ThreadConnections() as thread_connections:
            while runs := self._next(thread_connections):
                try:
                    self._carry_out(runs, thread_connections)
                    if runs[0].facts.is_async:
                        continue  # the event loop frees its place
                except BaseException as error:  # no exception may end this thread
                    end_after(error, runs)
                self._left()
        connections.close_all()

    def _carry_out(self, runs: list[Run], thread_connections: ThreadConnections) -> None:
        run = runs[0]
        if run.facts.is_async:
            # In a new context, as sync tasks are.
            Context().run(asyncio.run_coroutine_threadsafe, self._await(runs), self._event_loop())
        elif run.facts.group is not None and (len(runs) > 1 or run.facts.batch is not None):
            self._run_group(runs, run.facts.group, thread_connections)
        else:
            self._run(run, thread_connections)

    def _run(self, run: Run, thread_connections: ThreadConnections) -> None:
        thread_connections.prepare()
        began = now()
        with self._at_work([run]):
            result = run.owner.executor.run(run)
        took = now() - began
        tidy(thread_connections)
        run.end(result, took=took)

    def _run_group(
        self, runs: list[Run], group: GroupRunner, thread_connections: ThreadConnections
    ) -> None:
        thread_connections.prepare()
        began = now()
        results = group.run(runs, self._at_work)
        took = (now() - began) / len(results)
        with self._lock:
            left = runs[len(results) :]
            del runs[len(results) :]  # they are not ours any more, whatever is raised below
            self._queue.put_back(left)
            self._changed.notify(len(left))
        tidy(thread_connections)
        end_together(results, took=took)

    @contextmanager
    def _at_work(self, runs: Sequence[Run]) -> Iterator[None]:
        """Show runs on the in-flight board while the block is executed."""
        entries = [self._board.enter(run.claim.job_id) for run in runs]
        try:
            yield
        finally:
            try:
                self._check()
            finally:
                for entry in entries:
                    self._board.leave(entry)

    def _next(self, thread_connections: ThreadConnections) -> list[Run]:
        """Return the runs that this thread executes next; none if the pool is stopped."""
        with self._lock:
            if runs := self._take():
                return runs
        tidy(thread_connections, rest=True)
        with self._lock:
            while not (runs := self._take()) and not self._stopped:
                self._changed.wait(self._queue.pause)
            return runs

    def _take(self) -> list[Run]:
        if self._running >= self._size or self._stopped:
            return []
        runs = self._queue.take()
        self._running += bool(runs)
        return runs

    def _left(self) -> None:
        with self._lock:
            self._running -= 1
            self._changed.notify()

    async def _await(self, runs: Sequence[Run]) -> None:
        results: Sequence[tuple[Run, RunResult]] = ()
        began = now()
        try:
            results = await self._arun(runs)
        except GeneratorExit:  # the loop was closed
            raise
        except BaseException as error:  # no caller reads it
            end_after(error, runs)
        finally:
            self._left()
            took = (now() - began) / len(runs)
            end_together(results or [(run, RELEASED) for run in runs], took=took)

    async def _arun(self, runs: Sequence[Run]) -> Sequence[tuple[Run, RunResult]]:
        group = runs[0].facts.group
        if group is not None:
            return await group.arun(runs, self._at_work)
        with self._at_work(runs):
            return [(runs[0], await runs[0].owner.executor.arun(runs[0]))]

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        with self._loop_lock:
            if self._loop is None:
                loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._run_loop, args=[loop], name="aftercommit-asyncio", daemon=True
                ).start()
                self._loop = loop  # only now: the thread may be refused
        return self._loop

    def _run_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        while not self._stopped:
            try:
                loop.run_forever()
            except BaseException as error:
                # An asyncio task raised SystemExit, say; the other tasks must go on.
                log_error(
                    "An exception ended the event loop of async tasks; it goes on", error=error
                )
        loop.close()


def tidy(thread_connections: ThreadConnections, *, rest: bool = False) -> None:
    """Close connections that must not be kept; a failure does not change any result."""
    try:
        thread_connections.tidy()
        if rest:
            thread_connections.rest()
    except BaseException as error:
        log_error("A connection that a task has used cannot be closed", error=error)


def end_after(error: BaseException, runs: Sequence[Run]) -> None:
    """End runs after an exception of the worker's own code or of a broken connection."""
    for run in runs:
        if run.is_over:
            continue
        told = hidden(error, run.secrets) if run.secrets else readable(error)
        log_error(
            "Job %s (%s): the worker could not run it, or could not record its outcome",
            run.claim.job_id,
            run.claim.task_path,
            error=told if run.secrets else error,
        )
        try:
            outcome = _outcome_after(told, run, run.facts.policy_of(run.claim))
            run.end(RunResult(outcome=outcome, exception=told), took=None)
        except BaseException as unreleased:
            run.lost = True  # no longer renewed: the job is rescued when its lease ends
            log_error("Job %s could not be released", run.claim.job_id, error=unreleased)


def _outcome_after(error: BaseException, run: Run, policy: Policy) -> Outcome:
    """Release a run that had not begun or had a database error; else it has failed."""
    if isinstance(error, Error) or not run.has_begun:
        return Released(AFTER_ERROR)
    return outcome_of(error, run.claim, policy, conflict=False)
