"""The ids of jobs, made where a job is enqueued."""

import os
import threading
import time
from uuid import UUID

TICKS_OF_A_SECOND = 1000 << 12

_last_tick = 0
_tick_lock = threading.Lock()


def _renew_lock() -> None:
    """Let go, in a fork, of a lock that some thread of its parent held."""
    global _tick_lock  # noqa: PLW0603
    _tick_lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_lock)


def new_job_id() -> UUID:
    """Make a UUIDv7 (RFC 9562, section 5.7): 60 bits of time, then random bits.

    The 12 bits below the milliseconds count on (section 6.2, method 3), so ids that one
    process makes sort in the order of their making, also within a millisecond and over a
    clock that is set back by less than a second. None is ever made twice.
    """
    tick = _next_tick()
    value = (tick >> 12 & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76  # version 7
    value |= (tick & 0xFFF) << 64
    value |= 0x2 << 62  # variant of RFC 9562
    value |= int.from_bytes(os.urandom(8), "big") >> 2
    return UUID(int=value)


def _next_tick() -> int:
    """Return the time in 4096ths of a millisecond, later at each call."""
    global _last_tick  # noqa: PLW0603 - one sequence for the whole process
    with _tick_lock:
        tick = (time.time_ns() << 12) // 1_000_000
        if 0 <= _last_tick - tick < TICKS_OF_A_SECOND:
            tick = _last_tick + 1
        _last_tick = tick
        return tick
