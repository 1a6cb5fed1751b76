"""Which jobs a worker process runs at the moment, in memory that its parent sees, too.

When the process dies, its parent can tell the few jobs that may have killed it from the
many that were only claimed: those must not pay for the crash.
"""

from typing import Any
from uuid import UUID

ID = 16  # bytes
MOST = 50  # jobs that a thread may have at work at once: those that share a transaction
NOBODY = bytes(ID)


class InFlight:
    """The id of the worker, then a place for each job that may run at once."""

    def __init__(self, memory: Any) -> None:
        self._memory = memoryview(memory).cast("B")  # an mmap, or a bytearray
        self._free = list(range(1, len(self._memory) // ID))

    @staticmethod
    def size(threads: int) -> int:
        """Return how many bytes it takes for so many threads."""
        return ID * (1 + threads * MOST)

    def sign(self, worker_id: UUID) -> None:
        """Say whose board this is."""
        self._write(0, worker_id.bytes)

    def enter(self, job_id: UUID) -> int:
        """Note that the body of a job begins; return its place."""
        place = self._free.pop()
        self._write(place, job_id.bytes)
        return place

    def leave(self, place: int) -> None:
        """Note that it is over."""
        self._write(place, NOBODY)
        self._free.append(place)

    def read(self) -> tuple[UUID | None, set[UUID]]:
        """Return whose board it is, if it was signed, and which jobs it names."""
        raw = bytes(self._memory)
        owner, *jobs = (raw[start : start + ID] for start in range(0, len(raw), ID))
        running = {UUID(bytes=one) for one in jobs if one != NOBODY}
        return (None if owner == NOBODY else UUID(bytes=owner)), running

    def _write(self, place: int, content: bytes) -> None:
        self._memory[place * ID : (place + 1) * ID] = content
