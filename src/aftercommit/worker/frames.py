"""The local variables that the traceback of an exception keeps alive."""

import traceback
from collections.abc import Iterator
from contextlib import suppress

CHAIN = (BaseException.__dict__["__cause__"], BaseException.__dict__["__context__"])


def clear_frames(error: BaseException) -> None:
    """Free the local variables of all functions that an exception has left; never raises.

    Call it in the thread that ran them. What is freed may use the thread's connections: a
    generator that closes its cursor or leaves an ``atomic()`` block, a ``__del__()``. In
    another thread, or later, it would meet the transaction of another job.
    """
    for one in _all(error):
        with suppress(BaseException):
            traceback.clear_frames(one.__traceback__)


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
