"""Everything that one worker process does for one database alias."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
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
        self.done = 0  # runs recorded since the start; released runs do not count
        self._process = process
        self._rooms = assemble(
            served,
            worker_id=process.worker_id,
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
        limits_loop = loop("limits", rooms.let_pass)
        rooms.passage.ring = rooms.rates.ring = limits_loop.ring
        self._other_loops = [
            self._requests_loop,
            limits_loop,
            loop(
                "heartbeat",
                rooms.heartbeat.step,
                longest_wait=QUICK,
                at_end=rooms.heartbeat.end_leases,
            ),
            loop("prune", rooms.pruner.step),
            # Each of its steps queries the database: it reports whether the database answers.
            loop(
                "rescue",
                rooms.rescuer.step,
                on_trouble=self._on_trouble,
                on_success=self._on_success,
            ),
        ]

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
        for loop in (*self._other_loops, self._finish_loop):
            loop.stop()
        for loop in (self._presence_loop, *self._other_loops, self._finish_loop):
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

    # ---- runs -------------------------------------------------------------------

    @contextmanager
    def in_one_thread(self, number: int) -> Iterator[None]:
        """Count jobs that run together in one thread as one job, during the block."""
        self._process.capacity.vacate(number - 1)
        try:
            yield
        finally:
            self._process.capacity.occupy(number - 1)

    def ended(self, run: Run, result: RunResult) -> None:
        """Accept the result of a run, and free its capacity."""
        self._endings.ended(run, result)

    def release_unstarted(self, runs: list[Run]) -> None:
        """Release runs that no thread has begun, so that another worker may claim the jobs."""
        self._endings.release_unstarted(runs)

    def release(self, runs: list[Run]) -> None:
        """Release runs without counting an attempt, and interrupt their bodies."""
        self._endings.release(runs)

    def give_up(self, run: Run) -> None:
        """Record a timeout for a body that ignores its interrupt; the thread is lost."""
        self._endings.give_up(run)

    def _recorded(self, run: Run, result: RunResult) -> None:
        self.done += not isinstance(result.outcome, Released)
        self._process.finished.add()
        self._claims.recorded(run.claim.queue)
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
