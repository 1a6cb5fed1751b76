"""The parent of the worker processes: starts them, replaces them, stops them."""

import logging
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from typing import Any

import django

from aftercommit.options.conf import WorkerConfig
from aftercommit.process import Bell
from aftercommit.worker.board import Board
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

LOOK_EVERY = timedelta(milliseconds=100)
FIRST_PAUSE = timedelta(milliseconds=100)  # before a dead process is replaced
LONGEST_PAUSE = timedelta(seconds=10)
HEALTHY_AFTER = timedelta(seconds=30)  # a process that lived so long may be replaced at once
BEYOND_GRACE = timedelta(seconds=15)
REPLACE_ME = 75  # see worker.loop; not imported, because that needs the models
TO_HURRY = timedelta(seconds=8)
STOP, HURRY = "stop", "hurry"


@dataclass(slots=True)
class Progress:
    """What the worker processes have reported."""

    done: int = 0
    running: int = 0


@dataclass(slots=True)
class Child:
    """One worker process and its pipe."""

    process: Any
    pipe: Connection
    board: Any  # memory that both see; see worker.board
    started: float
    done: int = 0
    running: int = 0


@dataclass(slots=True)
class Place:
    """One of ``--processes`` places; its process may be replaced."""

    child: Child | None = None
    start_at: float = field(default_factory=now)
    pause: timedelta = FIRST_PAUSE
    through: bool = False
    done_before: int = 0  # by processes that are gone


class Supervisor:
    """Keeps ``processes`` worker processes alive; a task cannot take it down with it.

    ``died`` is called with the board of a process that did not end in good order.
    """

    def __init__(
        self, config: WorkerConfig, *, died: Callable[[Any], None] = lambda board: None
    ) -> None:
        self._config = config
        self._died = died
        self._context: SpawnContext = multiprocessing.get_context("spawn")
        self._left = (
            None if config.max_jobs is None else self._context.Value("q", config.max_jobs)
        )
        self._places = [Place() for _number in range(config.processes)]
        self._bell = Bell()
        self._asked = 0  # how often someone asked to stop

    def run(self, *, show: Callable[[Progress], None] | None = None) -> int:
        """Work until stopped or through; return the exit status.

        ``show`` is called ten times a second with what has been done. The status is 0
        after a stop in good order, 1 if it had to be forced.
        """
        told = 0
        deadline: float | None = None
        while not all(place.through and place.child is None for place in self._places):
            if self._asked > told:
                told = self._asked
                deadline = self._tell_all(hurry=told > 1)
            if deadline is not None and now() > deadline:
                self._kill_all()
                return 1
            for place in self._places:
                self._look_after(place, stopping=told > 0)
            if show is not None:
                show(self._progress())
            self._bell.wait(LOOK_EVERY)
        return 1 if told > 1 else 0

    def stop(self) -> None:
        """Stop in good order; the second time, at once. Safe in a signal handler."""
        self._asked += 1
        self._bell.ring()

    def end_children(self) -> None:
        """Let the worker processes give back what they run, and end: the code has changed."""
        self._asked += 1
        end = self._tell_all(hurry=True)
        for place in self._places:
            if place.child is not None:
                place.child.process.join(max(end - now(), 0))
        self._kill_all()

    def _look_after(self, place: Place, *, stopping: bool) -> None:
        child = place.child
        if child is not None:
            self._listen(child)
            if child.process.is_alive():
                return
            self._bury(place, child, stopping=stopping)
        elif stopping:
            place.through = True
        elif not place.through and now() >= place.start_at:
            place.child = self._start()

    def _bury(self, place: Place, child: Child, *, stopping: bool) -> None:
        self._listen(child)
        child.process.join()
        child.pipe.close()
        place.child = None
        place.done_before += child.done
        code = child.process.exitcode
        finite = self._config.drain or self._left is not None
        if code not in {0, REPLACE_ME}:
            self._died(child.board)
        if stopping or (finite and code == 0):
            place.through = True
            return
        if code in {0, REPLACE_ME}:
            place.start_at = now()
            return
        if now() - child.started > HEALTHY_AFTER.total_seconds():
            place.pause = FIRST_PAUSE
        logger.error(
            "A worker process (pid %s) ended with %s; it is replaced in %s. Jobs that it ran "
            "will run again, alone.",
            child.process.pid,
            _name_of(code),
            place.pause,
        )
        place.start_at = now() + place.pause.total_seconds()
        place.pause = min(place.pause * 2, LONGEST_PAUSE)

    def _start(self) -> Child:
        ours, theirs = self._context.Pipe()
        board = self._context.RawArray("c", Board.size(self._config.threads))
        process = self._context.Process(
            target=_be_worker_process,
            args=(self._config, theirs, self._left, board),
            name="aftercommit-worker",
        )
        process.start()
        theirs.close()
        return Child(process=process, pipe=ours, board=board, started=now())

    def _listen(self, child: Child) -> None:
        try:
            while child.pipe.poll():
                child.done, child.running = child.pipe.recv()
        except (EOFError, OSError):
            child.running = 0

    def _tell_all(self, *, hurry: bool) -> float:
        for place in self._places:
            if place.child is not None:
                try:
                    place.child.pipe.send(HURRY if hurry else STOP)
                except OSError:
                    continue  # it has just ended
        limit = TO_HURRY if hurry else self._config.grace + BEYOND_GRACE
        return now() + limit.total_seconds()

    def _kill_all(self) -> None:
        for place in self._places:
            if place.child is not None and place.child.process.is_alive():
                logger.error(
                    "Worker process %s does not end; it is killed", place.child.process.pid
                )
                place.child.process.kill()
                place.child.process.join()

    def _progress(self) -> Progress:
        children = [place.child for place in self._places if place.child is not None]
        return Progress(
            done=sum(place.done_before for place in self._places)
            + sum(child.done for child in children),
            running=sum(child.running for child in children),
        )


def _name_of(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _be_worker_process(config: WorkerConfig, pipe: Connection, left: Any, board: Any) -> None:
    """Be the child: work until told to stop through the pipe, by a signal, or orphaned."""
    django.setup()
    from aftercommit.worker.process import WorkerProcess  # noqa: PLC0415 - needs the models

    WorkerProcess(config, pipe, left, board).run()
