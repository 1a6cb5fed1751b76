"""Wait for something to become true, with a deadline."""

import time
from collections.abc import Callable
from datetime import timedelta
from threading import Event
from typing import TypeVar

Truth = TypeVar("Truth")

SOON = timedelta(seconds=10)
BETWEEN_LOOKS = timedelta(milliseconds=10)


def wait_until(
    condition: Callable[[], Truth],
    *,
    deadline: timedelta = SOON,
    between: timedelta = BETWEEN_LOOKS,
    why: str = "",
) -> Truth:
    """Return the condition's first true answer.

    Where an event can be waited for, wait for that. This is for what announces
    itself nowhere: a row, a file, another process.

    Raises ``AssertionError`` once ``deadline`` is over; the condition is looked
    at once more at its very end.
    """
    ends = time.monotonic() + deadline.total_seconds()
    pause = Event()  # never set: its wait is a pause that signals may interrupt
    while not (answer := condition()):
        if time.monotonic() >= ends:
            name = why or getattr(condition, "__name__", repr(condition))
            raise AssertionError(f"Not true within {deadline}: {name}")
        pause.wait(between.total_seconds())
    return answer
