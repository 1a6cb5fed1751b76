"""The ids of jobs, made where a job is enqueued."""

import os
import struct
import threading
import time
from datetime import datetime
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
    noise = int.from_bytes(os.urandom(8), "big")
    return UUID(int=_high(_next_ticks(1)) << 64 | _low(noise))


def new_job_ids(number: int) -> list[str]:
    """Make many at once, as text, in order."""
    first = _next_ticks(number)
    ids = []
    for index, noise in enumerate(struct.unpack(f"{number}Q", os.urandom(8 * number))):
        high, low = f"{_high(first + index):016x}", f"{_low(noise):016x}"
        ids.append(f"{high[:8]}-{high[8:12]}-{high[12:]}-{low[:4]}-{low[4:]}")
    return ids


def new_uuids(number: int) -> list[UUID]:
    """Make many at once, in order."""
    first = _next_ticks(number)
    noises = struct.unpack(f"{number}Q", os.urandom(8 * number))
    return [UUID(int=_high(first + n) << 64 | _low(noise)) for n, noise in enumerate(noises)]


def first_id_of(moment: datetime) -> UUID:
    """Return the lowest id that can be made at ``moment``, or later."""
    return first_id_at(max(int(moment.timestamp() * 1000), 0))


def first_id_at(milliseconds: int) -> UUID:
    """Return the lowest id that can be made at this time since 1970, or later."""
    return UUID(int=_high(milliseconds << 12) << 64 | _low(0))


def milliseconds_of(job_id: UUID) -> int:
    """Return the time since 1970 at which an id was made, by the clock of its maker."""
    return job_id.int >> 80


def _high(tick: int) -> int:
    milliseconds = tick >> 12 & 0xFFFF_FFFF_FFFF
    return milliseconds << 16 | 0x7000 | tick & 0xFFF  # 7: the version


def _low(noise: int) -> int:
    return 1 << 63 | noise >> 2  # 10: the variant of RFC 9562


def _next_ticks(number: int) -> int:
    """Return the time in 4096ths of a millisecond, later at each call by ``number`` at least."""
    global _last_tick  # noqa: PLW0603 - one sequence for the whole process
    with _tick_lock:
        tick = (time.time_ns() << 12) // 1_000_000
        if 0 <= _last_tick - tick < TICKS_OF_A_SECOND:
            tick = _last_tick + 1
        _last_tick = tick + number - 1
        return tick


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that a text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None
