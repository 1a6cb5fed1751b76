"""One worker process, from its first claim to its last outcome."""

import logging
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

from aftercommit.enqueue.configured import our_backends
from aftercommit.options.worker import RELAY_ONLY, WorkerConfig
from aftercommit.process import Bell
from aftercommit.values import NO_TIME
from aftercommit.worker.alias import AliasWorker
from aftercommit.worker.claiming.broker_share import divide
from aftercommit.worker.claiming.capacity import Capacity, FinishedCounter
from aftercommit.worker.claiming.prefetch import Prefetch
from aftercommit.worker.condition import Condition, condition_of
from aftercommit.worker.config import served
from aftercommit.worker.counts import Counts
from aftercommit.worker.in_flight import InFlight
from aftercommit.worker.own_threads import unobserved
from aftercommit.worker.process_wide import ProcessWide
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.recycling import JobsPerProcess, MemoryLimit
from aftercommit.worker.running.pool import Pool
from aftercommit.worker.running.timeouts import Timeouts
from aftercommit.worker.runs import Run, now
from aftercommit.worker.upkeep.loop import LoopThread

logger = logging.getLogger("aftercommit")

LOOK_EVERY = timedelta(milliseconds=250)
# In a drain, because a caller waits for its end, and when another process is to begin.
LOOK_OFTEN = timedelta(milliseconds=20)
PATIENCE = timedelta(milliseconds=250)  # a prefetched job that waits longer is released
LAST_WRITES = timedelta(seconds=5)  # for writing outcomes, when all bodies have ended
REPLACE_ME = 75  # exit status that asks for a new process; EX_TEMPFAIL of sysexits.h
OUTGROWN = 71  # exit status of a process whose jobs need too much memory; EX_OSERR
TO_JOIN = timedelta(seconds=2)
# How long a process for jobs with crashes waits for the next such job before it ends.
IDLE_WITHOUT_CRASHED = timedelta(seconds=30)


class Worker:
    """Serves every database alias of its backends until it is stopped.

    Other threads do the work; the thread that calls ``run`` waits for the end. To stop, the
    worker claims no more jobs, releases prefetched jobs, lets running jobs finish within
    ``grace``, and then releases those that still run, without counting an attempt. ``check`` is
    called after each body, while the job is still on the board. ``here``: the thread that
    calls ``work_here()`` is the one that runs sync tasks; another one calls ``run``.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        quota: RunQuota,
        board: InFlight | None = None,
        check: Callable[[], None] = lambda: None,
        here: bool = False,
    ) -> None:
        self._config = config
        self._quota = quota
        self._bell = Bell()
        self._per_process = JobsPerProcess(config.max_jobs_per_process, used_up=self._bell.ring)
        self._memory = MemoryLimit(config.max_memory)
        self._outgrown = False
        self._lock = threading.Lock()
        self._stopping = False
        self._hurry = False
        # This process is to be replaced; until when its runs may go on, then they are released
        self._replaced_by: float | None = None
        self._capacity = Capacity(config.threads)
        self._pool = Pool(config.threads, board=board, check=check, here=here)
        self._left_here = threading.Event()
        self._prefetch = Prefetch(config.threads)
        self._finished = FinishedCounter()
        self._last_busy = now()
        self.counts = Counts() if config.tells_counts else None
        self._aliases = self._make_aliases(board)
        libraries = {name for one in our_backends() for name in one.config.libraries}
        divide(
            threads=config.threads,
            among_others=config.relay != RELAY_ONLY or len(libraries) > 1,
        )
        self._timeouts = LoopThread(
            "timeouts",
            Timeouts([alias.runs for alias in self._aliases], give_up=self._give_up).step,
        )

    def _make_aliases(self, board: InFlight | None) -> list[AliasWorker]:
        worker_id = uuid4()
        if board is not None:
            board.sign(worker_id)
        process = ProcessWide(
            worker_id=worker_id,
            threads=self._config.threads,
            pool=self._pool,
            capacity=self._capacity,
            quota=self._quota,
            per_process=self._per_process,
            finished=self._finished,
            prefetch=self._prefetch,
            counts=self.counts,
        )
        aliases = [AliasWorker(one, process) for one in served(self._config)]
        if self._config.drain:
            self._finished.listeners += [alias.ring for alias in aliases]
        return aliases

    def run(self, *, every: Callable[["Worker"], None] | None = None) -> int:
        """Work until ``stop()``, or until a drain or ``max_jobs`` is complete.

        ``every`` is called at least four times a second, to report progress. Returns the
        exit status: ``REPLACE_ME`` after ``ask_for_replacement()``, or if a thread is lost to a
        task that does not end; ``OUTGROWN`` if jobs that need more than ``max_memory`` did not
        end in time: they were not given back, and count a crash.
        """
        with unobserved():
            return self._run(every)

    def _run(self, every: Callable[["Worker"], None] | None) -> int:
        if self._memory.warning:
            logger.warning("%s", self._memory.warning)
        self._pool.start()
        self._timeouts.start()
        for alias in self._aliases:
            alias.start()
        while not self._stopping and not self._through:
            often = self._config.drain or self._replaced_by is not None
            self._bell.wait(LOOK_OFTEN if often else LOOK_EVERY)
            patience = PATIENCE if self._replaced_by is None else NO_TIME
            if waiting := self._pool.unstarted(held_for=patience):
                self._prefetch.measure_anew()
                self._release_unstarted(waiting)
            self._recycle()
            if every is not None:
                every(self)
        if self._outgrown and not self._stopping and self._bodies():
            self._wait(lambda: self._all_written, limit=LAST_WRITES)
            return OUTGROWN
        self._shut_down()
        return 0 if self._replaced_by is None or self._stopping else REPLACE_ME

    def work_here(self) -> None:
        """Run sync tasks in the calling thread until ``let_go()``."""
        try:
            self._pool.work_here()
        finally:
            self._left_here.set()

    def let_go(self) -> bool:
        """Let ``work_here()`` return, after ``run()``; False if a task does not end there."""
        self._pool.let_go()
        return self._left_here.wait(TO_JOIN.total_seconds())

    def stop(self) -> None:
        """Stop gracefully; may be called from a signal handler."""
        self._stopping = True
        self._bell.ring()

    def stop_now(self) -> None:
        """Stop and release all jobs at once, running jobs as well."""
        self._hurry = True
        self.stop()

    def _recycle(self) -> None:
        """Ask for a new process when this one has done, or grown, enough."""
        if self._replaced_by is not None:
            return
        if self._per_process.used_up:
            why = f"Worker process {os.getpid()} has claimed its last job, and is replaced."
            self.ask_for_replacement(why, level=logging.INFO)
        elif too_large := self._memory.exceeded(done=self.done, running=self.running):
            self._outgrown = True
            self.ask_for_replacement(too_large, level=logging.WARNING)

    def ask_for_replacement(self, why: str, *, level: int = logging.ERROR) -> None:
        """Claim no more jobs, and end when the running ones have; from any thread.

        ``why`` is logged, once. What still runs when ``grace`` is over is released.
        """
        with self._lock:
            if self._replaced_by is not None:
                return
            self._replaced_by = now() + self._config.grace.total_seconds()
        for alias in self._aliases:
            alias.stop_fetching()
        self._bell.ring()
        logger.log(level, "%s", why)

    @property
    def done(self) -> int:
        """How many runs were recorded so far; released runs do not count."""
        return sum(alias.done for alias in self._aliases)

    @property
    def running(self) -> int:
        """How many claimed jobs have no written outcome yet."""
        return sum(len(alias.runs) for alias in self._aliases)

    @property
    def in_task(self) -> bool:
        """Whether code of a task is running."""
        return bool(self._bodies())

    @property
    def sees_crashed(self) -> bool:
        """Whether jobs with crashes are due soon, or a worker that looks dead may leave some."""
        return any(alias.sees_crashed for alias in self._aliases)

    @property
    def condition(self) -> Condition:
        """Whether the threads of this process do their work; asks no database."""
        return condition_of(one for alias in self._aliases for one in alias.vital_threads)

    @property
    def _through(self) -> bool:
        if self._replaced_by is not None and (not self._held() or now() > self._replaced_by):
            return True
        if self._quota.used_up and self._at_rest:
            return True
        if self._config.crashed and not self._config.drain and self._is_idle:
            return True
        count = self._finished.count
        return self._config.drain and all(alias.quiet_since == count for alias in self._aliases)

    @property
    def _is_idle(self) -> bool:
        """Whether a process for jobs with crashes has had no such job for a while."""
        if self.sees_crashed or not self._at_rest:
            self._last_busy = now()
        return now() - self._last_busy > IDLE_WITHOUT_CRASHED.total_seconds()

    @property
    def _at_rest(self) -> bool:
        return all(alias.at_rest for alias in self._aliases)

    @property
    def _all_written(self) -> bool:
        return all(alias.all_written for alias in self._aliases)

    def _bodies(self) -> list[Run]:
        """Return the runs whose body has begun and is not over."""
        return [run for run in self._held() if run.has_begun and not run.is_over]

    def _held(self) -> list[Run]:
        return [run for alias in self._aliases for run in alias.runs.all()]

    def _give_up(self, run: Run) -> None:
        logger.error(
            "Job %s (%s) has exceeded its timeout and does not react to the interrupt; this "
            "process is replaced when its other jobs have ended",
            run.claim.job_id,
            run.claim.task_path,
        )
        for alias in self._aliases:
            if run.owner is alias:
                alias.give_up(run)
        self.ask_for_replacement("A thread of this worker process is lost to a task.")

    def _shut_down(self) -> None:
        for alias in self._aliases:
            alias.stop_fetching()
        self._release_unstarted(self._pool.unstarted())
        # The grace of a process that is replaced is over, or it has nothing to wait for.
        grace = self._config.grace if self._stopping or self._replaced_by is None else NO_TIME
        self._wait(lambda: self._hurry or self._at_rest, limit=grace)
        self._release([run for run in self._held() if not run.given_up])
        self._wait(lambda: self._at_rest, limit=LAST_WRITES)
        for alias in self._aliases:
            alias.stop(TO_JOIN)
        self._timeouts.stop()
        if not self._hurry and self._capacity.all_free:
            self._pool.stop(TO_JOIN)

    def _release_unstarted(self, runs: list[Run]) -> None:
        for alias in self._aliases:
            alias.release_unstarted([run for run in runs if run.owner is alias])

    def _release(self, runs: list[Run]) -> None:
        for alias in self._aliases:
            alias.release([run for run in runs if run.owner is alias])

    def _wait(self, over: Callable[[], bool], *, limit: timedelta) -> None:
        end = now() + limit.total_seconds()
        while not over() and now() < end:
            self._bell.wait(timedelta(milliseconds=20))
