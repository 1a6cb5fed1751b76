"""Everything that one worker process does for one database alias."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

from aftercommit import events
from aftercommit.values import Released, RunResult
from aftercommit.worker.assembly import assemble
from aftercommit.worker.claims import Claims
from aftercommit.worker.config import Served
from aftercommit.worker.endings import Endings
from aftercommit.worker.held import Runs
from aftercommit.worker.process_wide import ProcessWide
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.loop import LoopThread

QUICK = timedelta(milliseconds=300)  # longest wait after an error, for presence and heartbeat


class AliasWorker:
    """Claims jobs, writes outcomes, renews leases, rescues and listens, each in its own thread.

    A slow write of outcomes then does not delay a renewal, and a database that does not
    answer does not stop the work on the other aliases.
    """

    def __init__(self, served: Served, process: ProcessWide) -> None:
        self.using = served.using
        self._served = served
        self.done = 0  # runs recorded since the start; released runs do not count
        self._process = process
        self._rooms = assemble(
            served,
            worker_id=process.worker_id,
            threads=process.threads,
            news=self.ring,
            asked=self._look_for_requests,
            recorded=self._recorded,
        )
        self._away = False
        self._endings = Endings(
            served, self._rooms, process, ring=self._write_soon, claim=self.ring
        )
        self._claims = Claims(
            served,
            self._rooms,
            process,
            ring=self.ring,
            release_unstarted=self._endings.release_unstarted,
        )
        self._make_loops()

    def _make_loops(self) -> None:
        def loop(name: str, step: Callable[[], timedelta], **more: Any) -> LoopThread:
            return LoopThread(f"{name}-{self.using}", step, **more)

        rooms = self._rooms
        self._fetch_loop = loop("fetch", lambda: self._claims.step(self))
        self._finish_loop = loop("finish", self._endings.step)
        self._presence_loop = loop(
            "presence",
            rooms.presence.step,
            longest_wait=QUICK,
            at_end=rooms.presence.sign_off,
        )
        self._requests_loop = loop("requests", rooms.requests.step)
        notes_loop = loop("notes", rooms.notes.step, at_end=rooms.notes.write_all)
        rooms.notes.ring = notes_loop.begin  # its thread begins with the first note
        self._notes_loop = notes_loop
        counts_loop = loop("statistics", rooms.statistics.step, at_end=rooms.statistics.flush)
        rooms.statistics.ring = counts_loop.begin  # the same, with the first job
        if self._process.counts is not None:
            rooms.statistics.taken = partial(self._process.counts.add, self.using)
        self._counts_loop = counts_loop
        # Not a process for jobs with crashes, or for some jobs only: it may die soon.
        schedules = not self._served.crashed and self._served.only is None
        let_pass = rooms.let_pass_and_schedule if schedules else rooms.let_pass
        limits_loop = loop("limits", let_pass)
        rooms.passage.ring = rooms.rates.ring = rooms.scheduler.ring = limits_loop.ring
        heartbeat_loop = loop(
            "heartbeat",
            rooms.heartbeat.step,
            longest_wait=QUICK,
            at_end=rooms.heartbeat.end_leases,
        )
        # Each of its steps queries the database: it reports whether the database answers.
        rescue_loop = loop(
            "rescue",
            rooms.rescuer.step,
            on_trouble=self._on_trouble,
            on_success=self._on_success,
        )
        self._other_loops = [
            self._requests_loop,
            limits_loop,
            heartbeat_loop,
            loop("prune", rooms.pruner.step),
            rescue_loop,
        ]
        self._vital_loops = {
            "claims jobs": self._fetch_loop,
            "writes outcomes": self._finish_loop,
            "renews leases": heartbeat_loop,
            "looks for dead workers": rescue_loop,
        }

    # ---- start and stop ---------------------------------------------------------

    def start(self) -> None:
        """Start the threads."""
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
            loop.start()
        self._fetch_loop.start()
        self._send(events.worker_started)

    def stop_fetching(self) -> None:
        """Claim no more jobs."""
        self._claims.stop()
        self._fetch_loop.stop()

    def stop(self, limit: timedelta) -> None:
        """Write the remaining outcomes, release the session lock and end the threads."""
        self._fetch_loop.join(limit)
        self._finish_loop.ring()
        self._presence_loop.stop()
        self._rooms.presence.interrupt()
        ending = (
            *self._other_loops,
            self._finish_loop,
            self._notes_loop,
            self._counts_loop,
        )
        for loop in ending:
            loop.stop()
        for loop in (self._presence_loop, *ending):
            loop.join(limit)
        self._send(events.worker_stopped)

    def ring(self) -> None:
        """Claim jobs now, without waiting for the next poll."""
        self._fetch_loop.ring()

    def _look_for_requests(self) -> None:
        self._requests_loop.ring()

    def _write_soon(self) -> None:
        self._finish_loop.ring()

    # ---- what it is doing -------------------------------------------------------

    @property
    def executor(self) -> Executor:
        """The executor of this alias."""
        return self._rooms.executor

    @property
    def runs(self) -> Runs:
        """The runs whose outcome is not in the table yet."""
        return self._rooms.runs

    @property
    def at_rest(self) -> bool:
        """Whether nothing is claimed, running or waiting to be written."""
        return self._claims.at_rest

    @property
    def all_written(self) -> bool:
        """Whether no result waits to be written."""
        return self._rooms.finisher.empty

    @property
    def quiet_since(self) -> int:
        """How many runs had ended when a claim last found no job while nothing was running."""
        return self._claims.quiet_since

    @property
    def sees_crashed(self) -> bool:
        """Whether jobs with crashes are due soon, or a worker that looks dead may leave some."""
        return self._rooms.rescuer.sees_crashed

    @property
    def vital_threads(self) -> list[tuple[str, str, LoopThread]]:
        """The threads without which no job is claimed, or its outcome is not written."""
        return [(self.using, what, loop) for what, loop in self._vital_loops.items()]

    # ---- runs -------------------------------------------------------------------

    @contextmanager
    def in_one_thread(self, runs: Sequence[Run]) -> Iterator[None]:
        """Count jobs that run in one call as one job, until the end of the block.

        Then their capacity is free at once: as they end one by one, each would let a single job
        be claimed.
        """
        if self._served.crashed:  # capacity is free when their results are recorded
            yield
            return
        self._process.capacity.vacate(sum(run.weight for run in runs) - 1)
        for run in runs:
            run.weight = 0
        try:
            yield
        finally:
            self._process.capacity.vacate()

    def ended(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        """Accept results of runs, and free their capacity."""
        self._endings.ended(ends)

    def release_unstarted(self, runs: list[Run]) -> None:
        """Release runs that no thread has begun, so that another worker may claim the jobs."""
        self._endings.release_unstarted(runs)

    def release(self, runs: list[Run]) -> None:
        """Release runs without counting an attempt, and interrupt their bodies."""
        self._endings.release(runs)

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that ignores its interrupt; the thread is lost."""
        self._endings.give_up(run)

    def _recorded(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        self.done += sum(not isinstance(result.outcome, Released) for _run, result in ends)
        self._process.finished.add(len(ends))
        self._claims.recorded({run.claim.queue for run, _result in ends})
        for run, _result in ends:
            if run.claim.limit_key is not None:
                self._rooms.passage.freed(run.claim)

    # ---- whether the database answers -------------------------------------------

    def _on_trouble(self, error: Exception) -> None:
        self._rooms.rescuer.trouble()
        if not self._away:
            self._away = True
            events.send(events.database_away, sender=type(self), using=self.using, error=error)

    def _on_success(self) -> None:
        if self._away:
            self._away = False
            events.send(events.database_back, sender=type(self), using=self.using)
            self.ring()

    def _send(self, signal: Any) -> None:
        events.send(
            signal, sender=type(self), worker_id=self._process.worker_id, using=self.using
        )
