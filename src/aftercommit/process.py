"""A bell that ends a wait, stop signals of the process, and forks of it."""

import errno
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Protocol

from aftercommit.values import NO_TIME


class HasDescriptor(Protocol):
    """A socket, or a connection of a driver."""

    def fileno(self) -> int:
        """Return its descriptor."""


FileDescriptor = int | HasDescriptor

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP")
    if hasattr(signal, name)
)


Handler = Callable[[int, FrameType | None], Any] | int | None


class Bell:
    """Wakes the one thread that waits on it; a ring without a waiting thread is kept."""

    def __init__(self) -> None:
        # Not threading.Event: ring() is called from signal handlers, where Event.set()
        # can deadlock and SimpleQueue.put() cannot.
        self._rings: SimpleQueue[None] = SimpleQueue()

    def ring(self) -> None:
        """End the present wait, or the next one."""
        if self._rings.empty():  # several rings end one wait
            self._rings.put(None)

    def wait(self, limit: timedelta) -> bool:
        """Wait for a ring, ``limit`` at most; True if there was one."""
        try:
            self._rings.get(timeout=max(limit.total_seconds(), 0))
        except Empty:
            return False
        while not self._rings.empty():  # rings that were added during the wait
            self._rings.get()
        return True


def readable(*files: FileDescriptor, limit: timedelta = NO_TIME) -> set[FileDescriptor]:
    """Wait, ``limit`` at most, until one of these can be read; return all that can.

    Not by select(), which refuses descriptors from 1,024 on. Raises ``OSError`` or
    ``ValueError`` for one that is closed.
    """
    if not hasattr(select, "poll"):  # Windows
        return set(select.select(files, [], [], limit.total_seconds())[0])
    numbers = {one if isinstance(one, int) else one.fileno(): one for one in files}
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    found = poll.poll(max(limit / timedelta(milliseconds=1), 0))
    if any(event & select.POLLNVAL for _number, event in found):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return {numbers[number] for number, _event in found}


class Forks:
    """How often this process is a fork of one that has loaded this module.

    A child that somebody else forks, a task perhaps, gets the handlers of signals that were
    there before ours: it would ignore SIGTERM, or tell the supervisor that this process stops.
    """

    count = 0
    is_ours = False  # the next fork is a worker process

    def __init__(self) -> None:
        self.handlers: dict[int, Handler] = {}  # of the children, for the signals we handle
        self._mask = threading.local()  # of the thread that forks
        self.in_child: list[Callable[[], None]] = []  # what else such a child does first
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(
                before=self._block, after_in_parent=self._unblock, after_in_child=self._begin
            )

    def _block(self) -> None:
        """Let no signal come in before the child has its handlers: it would be lost."""
        if self.handlers:
            self._mask.before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def _unblock(self) -> None:
        before = getattr(self._mask, "before", None)
        if before is not None:
            self._mask.before = None
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _begin(self) -> None:
        self.count += 1
        if not self.is_ours:
            for number, handler in self.handlers.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
            self.handlers.clear()
            for call in self.in_child:
                call()
        self._unblock()


forks = Forks()


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Call ``stop`` for each stop signal while the block runs; main thread only.

    The list receives their numbers.
    """
    received: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        stop()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, on_signal) for number in STOP_SIGNALS}
    forks.handlers |= before
    try:
        yield received
    finally:
        forks.handlers.clear()
        for number, handler in before.items():
            signal.signal(number, handler)


def leave_signals_to_parent(*, but: tuple[signal.Signals, ...] = ()) -> None:
    """Ignore stop signals, which reach the whole process group: the parent stops this process.

    The handler is a function and not SIG_IGN, which programs that a task starts would inherit.
    """
    for number in STOP_SIGNALS:
        is_interrupt = number == signal.SIGINT
        forks.handlers[number] = signal.default_int_handler if is_interrupt else signal.SIG_DFL
        if number not in but:
            signal.signal(number, lambda _number, _frame: None)


@contextmanager
def forks_end_here() -> Iterator[None]:
    """End a child process that was forked in the block when the child leaves the block.

    The child has the connections of its parent. The server would take the statements of the
    child for statements of the parent.
    """
    before = forks.count
    try:
        yield
    finally:
        if forks.count != before:
            os._exit(0)
