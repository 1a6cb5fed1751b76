"""A worker process from the inside; ``launch`` starts it, as a fork or as a new Python."""

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from mmap import mmap
from typing import TYPE_CHECKING, NoReturn

import django

from aftercommit.forked import keep_connections_to_worker
from aftercommit.options.worker import WorkerConfig
from aftercommit.process import STOP_SIGNALS, leave_signals_to_parent
from aftercommit.worker.descriptors import Descriptors
from aftercommit.worker.in_flight import InFlight
from aftercommit.worker.interrupts import interruptible
from aftercommit.worker.processes.channel import Channel, Message, config_of
from aftercommit.worker.processes.handover import take_over
from aftercommit.worker.quota import RunQuota

if TYPE_CHECKING:
    from aftercommit.worker.worker import Worker

logger = logging.getLogger("aftercommit")

DESCRIPTORS_CLOSED = 70  # exit status; EX_SOFTWARE of sysexits.h
ALIVE_EVERY = timedelta(seconds=1)
USED_UP = (
    "Worker process {pid} has used up its file descriptors (the limit is {limit:.0f}): a task "
    "does not close files or connections, or the limit is too low for so many threads. It claims "
    "no more jobs, and is replaced when the running ones have ended. To find a leak: "
    "ls -l /proc/{pid}/fd; to raise the limit: LimitNOFILE= or ulimit -n."
)
LONGEST_REASON = 1000  # characters
REPLACE_ME, OUTGROWN = 75, 71  # see worker.worker; not imported, because that needs the models
GROWN = "it needed more memory than --max-memory, for longer than --grace"
HURRY, STOP = "hurry", "stop"  # orders
THROUGH, REPLACE = "through", "replace"  # how a process ended


def main(files: Sequence[str]) -> NoReturn:
    """Be a worker process in a new Python, with the descriptors that the parent has given."""
    numbers = [int(file) for file in files]
    for number in numbers:
        os.set_inheritable(number, False)  # not for the programs that tasks start
    channel, board, *quota = numbers
    WorkerProcess(
        Channel(socket.socket(fileno=channel)),
        InFlight(mmap(board, 0)),
        RunQuota(quota[0] if quota else None),
    ).run()


class WorkerProcess:
    """Runs one ``Worker``; obeys the supervisor and reports to it."""

    def __init__(self, channel: Channel, board: InFlight, quota: RunQuota) -> None:
        self._channel = channel
        self._board = board
        self._quota = quota
        self._descriptors = Descriptors()
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._reported: Message = {}
        self._over = threading.Event()

    def run(self) -> NoReturn:
        """Load the project, work to the end, then leave the process."""
        self._handle_signals()
        orders = iter(self._channel)
        first = next(orders, None)
        if first is None:  # the parent is gone already
            os._exit(1)
        sys.argv[:] = first["argv"]  # settings may look at it, and shall see what they saw there
        # A parent of an earlier version hands nothing over.
        load = partial(_load_project, first.get("handover") or {})
        self._work(config_of(first["config"]), orders, prepare=load)

    def run_forked(self, config: WorkerConfig) -> NoReturn:
        """Do the same where the project is loaded."""
        self._handle_signals()
        self._work(config, iter(self._channel), prepare=lambda: None)

    def _work(
        self, config: WorkerConfig, orders: Iterator[Message], *, prepare: Callable[[], None]
    ) -> NoReturn:
        for name, target in (
            ("alive", self._show_life),
            ("orders", partial(self._obey, orders)),
        ):
            threading.Thread(target=target, name=f"aftercommit-{name}", daemon=True).start()
        worker = self._start(config, prepare)
        self._channel.send(ready=True)
        if config.threads > 1:
            _leave(self._run(worker))
        # Tasks run in the main thread: there, an interrupt reaches also one that waits in C.
        ended: list[int] = []
        threading.Thread(
            target=self._run_beside, args=[worker, ended], name="aftercommit-worker", daemon=True
        ).start()
        with interruptible():
            worker.work_here()
        self._over.wait()
        _leave(ended[0])

    def _run_beside(self, worker: "Worker", ended: list[int]) -> None:
        """Run beside the main thread, and end the process if a task there does not end."""
        try:
            ended.append(self._run(worker))
            if not worker.let_go():
                _leave_now(ended[0])
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        self._over.set()

    def _run(self, worker: "Worker") -> int:
        """Run to the end, and say how it ended."""
        status = worker.run(every=self._report)
        self._report(worker)
        if status == OUTGROWN:
            # Not in good order: its jobs have to be taken back as those of a process that died.
            self._channel.send(killed_for=GROWN)
            _leave_now(status)
        self._channel.send(end=REPLACE if status == REPLACE_ME else THROUGH)
        return status

    def _start(self, config: WorkerConfig, prepare: Callable[[], None]) -> "Worker":
        """Build the worker; if that fails, say why and end."""
        try:
            prepare()
            from aftercommit.worker.worker import Worker  # noqa: PLC0415 - needs the models

            worker = Worker(
                config,
                quota=self._quota,
                board=self._board,
                check=self._check_descriptors,
                here=config.threads == 1,
            )
        except BaseException as error:
            self._channel.send(failed=_reason(error), traceback=traceback.format_exc())
            os._exit(1)
        with self._lock:
            self._worker = worker
        return worker

    def _handle_signals(self) -> None:
        """SIGTERM and its kind stop in good order; SIGINT is the supervisor's to translate."""
        keep_connections_to_worker()
        leave_signals_to_parent()
        for number in set(STOP_SIGNALS) - {signal.SIGINT}:
            signal.signal(number, lambda _number, _frame: self._stop())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # see launch

    def _show_life(self) -> NoReturn:
        while True:
            self._board.count()  # and nothing else, which could block: a log, for example
            time.sleep(ALIVE_EVERY.total_seconds())

    def _check_descriptors(self) -> None:
        """End at once if a task has closed our descriptors; soon, if none are left.

        Each number of a closed one is given away again: a driver would then write its statements
        to the connection of another thread, and SQLite its pages to another file.
        """
        if self._channel.is_intact:
            if self._descriptors.are_used_up() and self._worker is not None:
                self._worker.ask_for_replacement(
                    USED_UP.format(pid=os.getpid(), limit=self._descriptors.limit)
                )
            return
        with suppress(BaseException):
            logger.error(
                "The descriptors of worker process %s were closed by code that it runs "
                "(os.closerange() perhaps); it ends, and its jobs run again, alone",
                os.getpid(),
            )
        os._exit(DESCRIPTORS_CLOSED)

    def _obey(self, orders: Iterator[Message]) -> None:
        for message in orders:
            with self._lock:  # a worker that begins meanwhile could claim
                self._stop(hurry=message.get("order") == HURRY)
        with self._lock:
            self._stop()  # the parent is gone

    def _stop(self, *, hurry: bool = False) -> None:
        if self._worker is None:
            self._channel.send(end=THROUGH)
            os._exit(0)
        if hurry:
            self._worker.stop_now()
        else:
            self._worker.stop()

    def _report(self, worker: "Worker") -> None:
        self._check_descriptors()
        self._descriptors.release_reserve(in_task=worker.in_task)
        condition = worker.condition
        report = {
            "done": worker.done,
            "running": worker.running,
            "sees_crashed": worker.sees_crashed,
            "problems": condition.problems,
            "stuck_for": int(condition.stuck_for.total_seconds()),
        }
        if report != self._reported and self._channel.send(**report):
            self._reported = report
        if worker.counts is not None:
            worker.counts.hand_on(lambda rows: self._channel.send(counts=rows))


def _load_project(handed: Message) -> None:
    if handed:
        take_over(handed)  # before the project can ask a database
    django.setup()
    from aftercommit import log  # noqa: PLC0415 - needs the models

    log.show_log()
    log.write_log()


def _reason(error: BaseException) -> str:
    lines = "".join(traceback.format_exception_only(error))  # str() may raise
    return " ".join(lines.split())[:LONGEST_REASON]


def _leave(status: int) -> NoReturn:
    """End; after a run that is stuck in its thread, without waiting for that."""
    if status == REPLACE_ME:
        _leave_now(status)
    sys.exit(status)  # which flushes


def _leave_now(status: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    os._exit(status)
