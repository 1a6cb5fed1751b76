"""The parent of the worker processes: starts them, replaces them, stops them."""

import contextlib
import logging
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from aftercommit.errors import ConfigurationError
from aftercommit.options.worker import WorkerConfig
from aftercommit.printable import Lines
from aftercommit.process import Bell
from aftercommit.values import NO_TIME
from aftercommit.wording import spoken
from aftercommit.worker.counts import Row
from aftercommit.worker.processes.aside import Aside, bury_asides
from aftercommit.worker.processes.child import HURRY, STOP, THROUGH
from aftercommit.worker.processes.launch import Child, Launcher
from aftercommit.worker.processes.progress import Progress
from aftercommit.worker.processes.report import WorkerReport
from aftercommit.worker.processes.slot import IN_VAIN, ProcessSlot
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

LOOK_EVERY = timedelta(milliseconds=100)
MOST_FAILED_STARTS = 10  # in a row, of one slot: the next ones would fail as well
HEALTHY_AFTER = timedelta(seconds=30)  # a process that lived so long has been started
BEYOND_GRACE = timedelta(seconds=15)
# When the grace is over, a process of which no thread has had its turn for so long is killed.
SILENT_AT_STOP = timedelta(seconds=3)
MOST_NAMED = 10  # jobs
TELL_EVERY = timedelta(milliseconds=500)
TO_HURRY = timedelta(seconds=8)
TO_DIE = timedelta(seconds=2)  # after kill -9, which a process in the kernel hears later


class Supervisor:
    """Keeps ``processes`` worker processes alive; a task cannot take it down with it.

    While there are jobs that were on a dead process, there is one more, of one thread,
    which runs those and no others.

    It never asks a database, so it obeys when none answers. ``died`` is called with a
    process that did not end in good order, and must return at once: what takes back its jobs.
    ``told`` is called twice a second with how it is, and must return at once as well; so must
    ``counted``, which is called with what a process has counted by task, if its config asks.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        died: Callable[[Child], Aside | None] = lambda child: None,
        longest_silence: timedelta | None = None,
        told: Callable[[WorkerReport], None] | None = None,
        counted: Callable[[list[Row]], None] = lambda _rows: None,
    ) -> None:
        self._config = config
        self._longest_silence = longest_silence  # None: a process may be silent for ever
        self._grace_until = float("inf")
        self._killed = False  # a process that did not stop
        self._finite = config.drain or config.max_jobs is not None
        self._died = died
        self._told = told
        self._counted = counted
        self._next_telling = 0.0
        self._deaths = 0
        self._launcher = Launcher(config)
        self._ordinary = [ProcessSlot(config) for _number in range(config.processes)]
        self._crashed = ProcessSlot(
            replace(config, processes=1, threads=1, crashed=True), through=True
        )
        self._slots = [*self._ordinary, self._crashed]
        self._crashed_seen = False  # some process sees jobs with crashes
        self._taking_back: Aside | None = None  # jobs of the process that died last
        self._died_at_work = False  # so that there will be such jobs in a moment
        self._bell = Bell()
        self._asked = 0  # how often someone asked to stop
        self._given_up = False
        self._reasons: set[str] = set()  # why processes could not start; each is said once
        self.worker_ids: set[UUID] = set()  # of the processes that have ended
        self.progress = Progress()

    @property
    def stopping(self) -> bool:
        """Whether someone asked to stop."""
        return self._asked > 0

    def run(self) -> int:
        """Work until stopped or through; return the exit status.

        It is 0 after a stop in good order, and 1 if the stop had to be forced or no
        process could be started.
        """
        told = 0
        deadline: float | None = None
        while not all(slot.closed for slot in self._slots):
            if self._asked > told:
                told = self._asked
                deadline = self._tell_all(hurry=told > 1)
            if deadline is not None and now() > deadline:
                self._kill_all()
                return 1
            for slot in self._slots:
                self._look_after(slot, stopping=told > 0)
            if told == 0:
                self._see_to_crashed()
            self._sum_up()
            self._tell()
            bury_asides()
            self._bell.wait(LOOK_EVERY)
        return 1 if told > 1 or self._given_up or self._killed else 0

    def stop(self) -> None:
        """Stop in good order; the second time, at once. Safe in a signal handler."""
        self._asked += 1
        self._bell.ring()

    def end_children(self) -> None:
        """Let the worker processes give back what they run, and end: the code has changed."""
        self._asked += 1
        end = self._tell_all(hurry=True)
        for slot in self._slots:
            if slot.child is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    slot.child.process.wait(max(end - now(), 0))
        self._kill_all()

    # ---- one process ------------------------------------------------------------

    def _look_after(self, slot: ProcessSlot, *, stopping: bool) -> None:
        child = slot.child
        if child is not None:
            ended = child.process.poll() is not None
            if not ended:
                child.note_memory()
                self._watch(child)
            child.listen()  # after that look: its last words have arrived
            if child.counts:
                counts, child.counts = child.counts, []
                self._counted(counts)
            self._crashed_seen |= child.sees_crashed and slot is not self._crashed
            if ended:
                self._bury(slot, child, stopping=stopping)
        elif stopping:
            slot.through = True
        elif not slot.through and now() >= slot.start_at and not self._is_too_early(slot):
            self._start(slot)

    def _watch(self, child: Child) -> None:
        """Kill a process of which no thread gets its turn: it would not stop either."""
        child.silence.note(child.board.counted)
        silence = child.silence.lasted
        if child.end is not None or child.killed_for is not None:
            return
        if now() > self._grace_until and silence >= SILENT_AT_STOP:
            self._killed = True
            self._kill(child)
        elif self._longest_silence is not None and silence >= self._longest_silence:
            child.killed_for = f"it showed no sign of life for {self._longest_silence}"
            _worker_id, begun = child.board.read()
            logger.error(
                "Worker process %s shows no sign of life since %s: a call does not release "
                "Python's interpreter lock, or the process was stopped. It runs %s. It is killed "
                "and replaced. For longer calls: --watchdog SECONDS.",
                child.process.pid,
                self._longest_silence,
                _names(begun),
            )
            child.process.kill()

    def _is_too_early(self, slot: ProcessSlot) -> bool:
        """Whether a process would find no job with crashes, because none is taken back yet."""
        back = self._taking_back is None or self._taking_back.ended_within(NO_TIME)
        return slot is self._crashed and not back

    def _start(self, slot: ProcessSlot) -> None:
        try:
            slot.child = self._launcher.start(slot.config)
        except (OSError, ConfigurationError) as error:
            self._not_started(slot, f"{type(error).__name__}: {error}")

    def _bury(self, slot: ProcessSlot, child: Child, *, stopping: bool) -> None:
        slot.child = None
        slot.done_before += child.done
        if (worker_id := child.board.read()[0]) is not None:
            self.worker_ids.add(worker_id)
        child.channel.close()
        slot.has_run |= _has_run(child)
        if not _has_run(child):
            slot.not_before = now() + IN_VAIN.total_seconds()
        if child.end is None:
            self._deaths += 1
            slot.last_end = child.death
            self._taking_back = self._died(child)
            _worker_id, begun = child.board.read()
            self._died_at_work |= bool(begun)
        if stopping or (child.end == THROUGH and (self._finite or slot is self._crashed)):
            self._close(slot)
        elif child.end is not None:
            self._has_started(slot)
            slot.start_at = now()
        elif child.ready and _has_worked(child):
            self._has_started(slot)
            logger.error(
                "A worker process (pid %s) ended with %s; it is replaced in %s. Jobs that it "
                "ran will run again, alone.",
                child.process.pid,
                child.death,
                slot.pause(),
            )
        else:
            reason = child.reason or f"it ended with {child.death}"
            self._not_started(slot, reason, ready=child.ready, traceback=child.traceback)

    def _has_started(self, slot: ProcessSlot) -> None:
        slot.failed_starts = 0
        self._reasons.clear()

    def _not_started(
        self, slot: ProcessSlot, reason: str, *, ready: bool = False, traceback: str = ""
    ) -> None:
        slot.failed_starts += 1
        pause = slot.pause()
        if reason not in self._reasons:
            self._reasons.add(reason)
            logger.error("A worker process did not get to its first job: %s", reason)
        logger.debug("The next try is in %s. %s", spoken(pause), Lines(traceback))
        if slot.failed_starts >= MOST_FAILED_STARTS or (self._finite and not ready):
            self._give_up(slot)

    def _give_up(self, slot: ProcessSlot) -> None:
        if not self._given_up:
            self._given_up = True
            logger.error(
                "The worker ends: failed starts of a process in a row: %s. The reason is above.",
                slot.failed_starts,
            )
            self.stop()

    def _close(self, slot: ProcessSlot) -> None:
        slot.through = True
        if slot is self._crashed:  # what was to be seen of such jobs until now is over
            self._crashed_seen = self._died_at_work = False

    # ---- jobs with crashes ------------------------------------------------------

    def _see_to_crashed(self) -> None:
        """Open the slot for jobs with crashes when there are some.

        In a drain it takes turns with the other slots, until it finds nothing: its jobs may
        enqueue others.
        """
        slot = self._crashed
        if self._config.crashed or not slot.closed or self._launcher.quota_is_used_up:
            return
        if slot.has_run and self._config.drain:
            for other in self._ordinary:
                if other.closed:
                    other.open()
        slot.has_run = False
        its_turn = not self._config.drain or all(one.closed for one in self._ordinary)
        if self._died_at_work or (self._crashed_seen and its_turn):
            slot.open()

    # ---- all of them ------------------------------------------------------------

    def _tell_all(self, *, hurry: bool) -> float:
        self._next_telling = 0.0  # whoever watches is told as well, at once
        for slot in self._slots:
            if slot.child is not None:
                slot.child.channel.send(order=HURRY if hurry else STOP)
        limit = TO_HURRY if hurry else self._config.grace + BEYOND_GRACE
        self._grace_until = now() + (NO_TIME if hurry else self._config.grace).total_seconds()
        return now() + limit.total_seconds()

    def _kill_all(self) -> None:
        for slot in self._slots:
            if slot.child is not None and slot.child.process.poll() is None:
                self._kill(slot.child)

    def _kill(self, child: Child) -> None:
        logger.error("Worker process %s does not end; it is killed", child.process.pid)
        child.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(TO_DIE.total_seconds())

    def _sum_up(self) -> None:
        children = [slot.child for slot in self._slots if slot.child is not None]
        self.progress.note(
            done=sum(slot.done_before for slot in self._slots)
            + sum(child.done for child in children),
            running=sum(child.running for child in children),
        )

    def _tell(self) -> None:
        if self._told is not None and now() >= self._next_telling:
            self._next_telling = now() + TELL_EVERY.total_seconds()
            self._told(self.report())

    def report(self) -> WorkerReport:
        """Return how it is with the worker: alive, ready, and if not, why."""
        return WorkerReport(
            stopping=self.stopping,
            processes=tuple(
                slot.report()
                for slot in self._ordinary
                if slot.child is not None or not slot.through
            ),
            done=self.progress.done,
            running=self.progress.running,
            deaths=self._deaths,
        )


def _names(jobs: set[UUID]) -> str:
    some = sorted(map(str, jobs))[:MOST_NAMED]
    more = f" and {len(jobs) - MOST_NAMED} others" if len(jobs) > MOST_NAMED else ""
    return f"the jobs {', '.join(some)}{more}" if jobs else "no job"


def _has_run(child: Child) -> bool:
    """Tell whether it got as far as a job."""
    _worker_id, begun = child.board.read()
    return bool(begun or child.done)


def _has_worked(child: Child) -> bool:
    """Tell whether the next process is likely to start as well."""
    return _has_run(child) or now() - child.started > HEALTHY_AFTER.total_seconds()
