"""Forks of a process that has loaded the project: they share its memory, and begin at once."""

import atexit
import contextlib
import gc
import logging
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import NoReturn

from django.db import connections

from aftercommit.process import STOP_SIGNALS, forks, leave_signals_to_parent
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

TO_LEAVE = timedelta(milliseconds=50)  # for a thread that was joined and is still in the kernel
LONGEST_NAP = 0.05  # seconds, between two looks whether a process has ended


def obstacle() -> str | None:
    """Return why a fork of this process could do harm, or None.

    A fork has one thread only: a lock that another one held stays locked in it for ever. And
    it shares each connection with this process: the answers would go to either of them.
    """
    if sys.platform != "linux":
        return f"{sys.platform} does not allow it"  # libraries of macOS start threads unseen
    if forks.count:
        return "this process is a fork itself"  # connections may be those of its parent
    if any(one.connection is not None for one in connections.all(initialized_only=True)):
        return "this program has a connection to a database"
    if (number := _threads()) != 1:
        names = ", ".join(sorted(one.name for one in threading.enumerate()))
        return f"this program has {number or 'uncounted'} threads (of Python: {names})"
    return "this program has an open connection" if _streams() else None


class Forking:
    """Whether the processes of this program are forks."""

    def __init__(self) -> None:
        self._said = False

    def is_safe(self) -> bool:
        """Tell whether there is no obstacle now; the first one is logged."""
        why = obstacle()
        if why is None:
            return True
        # Only the first is the project's: where no fork is safe, we start threads ourselves.
        level = logging.DEBUG if self._said or sys.platform != "linux" else logging.INFO
        logger.log(level, "Worker processes are new Pythons and no forks: %s", why)
        self._said = True
        return False


forking = Forking()


class ForkedProcess:
    """A fork in the words of ``subprocess.Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, as ``Popen`` would; None while it lives."""
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the system keeps nothing of dead children
                self.returncode = 0
            else:
                self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait for its end; raises ``subprocess.TimeoutExpired``."""
        end = now() + timeout
        nap = 0.001
        while (status := self.poll()) is None:
            if now() >= end:
                raise subprocess.TimeoutExpired("a fork", timeout)
            time.sleep(nap)
            nap = min(2 * nap, LONGEST_NAP)
        return status

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def fork(life: Callable[[], None], *, channel: Channel) -> ForkedProcess:
    """Call ``life`` in a fork, which ends with it; call only while there is no ``obstacle``.

    The fork has ``channel`` and no other channel of this process, ignores stop signals until
    it decides otherwise, reads nothing from the terminal, and does at its end what was
    registered with ``atexit`` since its beginning. Raises ``OSError``.
    """
    _flush()
    with stop_signals_blocked():
        freeze = not gc.get_freeze_count()
        gc.freeze()  # a collection in the fork would write to, and so copy, all of the memory
        forks.is_ours = True
        try:
            pid = os.fork()
        finally:
            forks.is_ours = False
        if not pid:
            _live(life, channel)
        if freeze:
            gc.unfreeze()
    return ForkedProcess(pid)


def _live(life: Callable[[], None], channel: Channel) -> NoReturn:
    """Never return: the frames below belong to the parent, and so does what they clean up."""
    status = 1
    try:
        atexit._clear()  # as multiprocessing does: temporary folders, say, are the parent's
        atexit.register(logging.shutdown)
        leave_signals_to_parent()
        channel.close_others()
        _read_nothing()
        _draw_other_numbers()
        life()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        _leave(status)


def _leave(status: int) -> NoReturn:
    """End as Python does: after the threads that are no daemons, and what they registered."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _flush()
    finally:
        os._exit(status)


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Let a new process begin without hearing of stop signals, until it can obey them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _read_nothing() -> None:
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)


def _draw_other_numbers() -> None:
    """Seed the one well-known generator that would draw the same numbers in each fork."""
    if (numpy := sys.modules.get("numpy.random")) is not None:
        numpy.seed()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()


def _threads() -> int:
    """Return how many threads there are, C libraries' included; 0 if that is not known."""
    end = now() + TO_LEAVE.total_seconds()
    with contextlib.suppress(OSError):
        while (number := len(os.listdir("/proc/self/task"))) != 1:
            if threading.active_count() > 1 or now() > end:
                break
            time.sleep(0.001)
        return number
    return 0


def _streams() -> bool:
    """Tell whether a socket is open that two processes cannot share, but for our own.

    A socket for datagrams, such as that of the system's log, can be shared.
    """
    files = set(map(int, os.listdir("/proc/self/fd")))
    return any(map(_is_stream, files - {0, 1, 2} - Channel.descriptors()))


def _is_stream(file: int) -> bool:
    try:
        if not stat.S_ISSOCK(os.fstat(file).st_mode):
            return False
        with socket.socket(fileno=os.dup(file)) as one:
            return one.type != socket.SOCK_DGRAM
    except OSError:  # it was open for the look only
        return False
