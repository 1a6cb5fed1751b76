"""Raises an exception in a thread that runs a task.

Python raises it between two steps of the thread. A thread that waits in a call into C, such as
``time.sleep()``, takes the next step when the call returns. The main thread is an exception: a
signal ends most of its waits, because Python's handlers run there. So a worker process of one
thread runs its tasks in the main thread, and this module sends it a signal as well.
"""

import ctypes
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Ignored by default: where it comes to somebody who does not know of it, nothing happens.
WAKE: signal.Signals | None = getattr(signal, "SIGURG", None)  # None on Windows

_interruptible: int | None = None  # the thread that may be sent the signal


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an exception for this thread end its waits in C, in the block; main thread only.

    Elsewhere, and if the project has a use for this signal, the block changes nothing.
    """
    global _interruptible  # noqa: PLW0603 - as the handlers of signals are
    main = threading.current_thread() is threading.main_thread()
    if WAKE is None or not main or not _is_free(signal.getsignal(WAKE)):
        yield
        return
    before = signal.signal(WAKE, _take_a_step)
    _interruptible = threading.get_ident()
    try:
        yield
    finally:
        _interruptible = None
        signal.signal(WAKE, before)


def raise_in_thread(thread_id: int, exception: type[BaseException] | None) -> None:
    """Raise an exception at the next step of a thread; None: none, if it is not raised yet."""
    argument = None if exception is None else ctypes.py_object(exception)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), argument)
    if exception is not None:
        wake(thread_id)


def wake(thread_id: int) -> None:
    """End a wait in C of a thread, if it is interruptible; what waits goes on otherwise."""
    if WAKE is not None and thread_id == _interruptible:
        signal.pthread_kill(thread_id, WAKE)


def _take_a_step(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the exception is raised as this function begins."""


def _is_free(handler: Callable[[int, FrameType | None], object] | int | None) -> bool:
    return handler in {signal.SIG_DFL, signal.SIG_IGN}
