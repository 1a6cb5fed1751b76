"""The local variables that the traceback of an exception keeps alive."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import TracebackType

GENERATOR = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
CLOSES_GENERATORS = sys.version_info < (3, 13)  # frame.clear(), of one that is suspended
CHAIN = (BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"])


def clear_frames(error: BaseException) -> None:
    """Free the local variables of all functions that an exception has left; never raises.

    Call it in the thread that ran them. What is freed may use the thread's connections: a
    generator that closes its cursor or leaves an ``atomic()`` block, a ``__del__()``. In
    another thread, or later, it would meet the transaction of another job.
    """
    for one in _all(error):
        with suppress(BaseException):
            if CLOSES_GENERATORS:
                _clear_ended(one.__traceback__, raised=one is error)
            else:
                traceback.clear_frames(one.__traceback__)


def _clear_ended(found: TracebackType | None, *, raised: bool) -> None:
    """Clear frames, but for those of generators and coroutines that may go on.

    A generator of the project that several jobs use may have caught the cause of what was raised.
    The worker's coroutine has caught it, and waits; the worker's generators are blocks that were
    left.
    """
    for frame, _line in traceback.walk_tb(found):
        flags = frame.f_code.co_flags
        ours = frame.f_globals.get("__name__", "").startswith("aftercommit.")
        goes_on = flags & CO_COROUTINE if ours else flags & GENERATOR and not raised
        if not goes_on:
            with suppress(RuntimeError):  # it is executed by another thread
                frame.clear()


def _all(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, its causes and contexts, and the members of groups, each once."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        # By the slots of the class: attributes of the project's exceptions may raise.
        waiting += filter(None, (slot.__get__(one) for slot in CHAIN))
        if issubclass(type(one), BaseExceptionGroup):
            waiting += BaseExceptionGroup.exceptions.__get__(one)
