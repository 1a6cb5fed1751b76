"""The in-flight board: which jobs a worker process is running, in memory shared with its parent.

When the process dies, the parent reads the board. Only the jobs on it may have caused the
crash; jobs that were claimed and not begun are released without counting a crash. The process
also counts on it, so that its parent sees that its threads still get their turn.
"""

from typing import Any, Self
from uuid import UUID

ID = 16  # bytes
MOST = 50  # jobs that one thread may run at once in a shared transaction, or publish in one call
MOST_IN_BATCH = 1000  # jobs that it may run at once in a call of a task with ``batch_size``
EMPTY = bytes(ID)
COUNTED = 8  # bytes of the count, at the end of the last entry
SIGN = b"counted\0"  # before them; a parent of an earlier version has no such entry


class InFlight:
    """An array: the id of the worker, one for each job that may run at once, and a count."""

    def __init__(self, memory: Any) -> None:
        self._memory = memoryview(memory).cast("B")  # an mmap, or a bytearray
        self._free = list(range(1, len(self._memory) // ID - self._is_counted))

    @classmethod
    def prepared(cls, memory: Any) -> Self:
        """Return the board in new memory of ``size()`` bytes, with an entry for the count."""
        memoryview(memory).cast("B")[-ID:] = SIGN + bytes(COUNTED)
        return cls(memory)

    @staticmethod
    def size(threads: int) -> int:
        """Return how many bytes the board of so many threads takes."""
        return ID * (1 + threads * MOST_IN_BATCH + 1)

    @property
    def _is_counted(self) -> bool:
        return bytes(self._memory[-ID:-COUNTED]) == SIGN

    def count(self) -> None:
        """Show that this process is alive."""
        if self._is_counted:
            self._memory[-COUNTED:] = (self.counted + 1).to_bytes(COUNTED)

    @property
    def counted(self) -> int:
        """How often the process has shown that it is alive."""
        return int.from_bytes(self._memory[-COUNTED:]) if self._is_counted else 0

    def sign(self, worker_id: UUID) -> None:
        """Write the id of the worker process that owns the board."""
        self._write(0, worker_id.bytes)

    def enter(self, job_id: UUID) -> int:
        """Add a job whose body is about to begin; return the index of its entry."""
        index = self._free.pop()
        self._write(index, job_id.bytes)
        return index

    def leave(self, index: int) -> None:
        """Clear the entry of a job whose body has ended."""
        self._write(index, EMPTY)
        self._free.append(index)

    def read(self) -> tuple[UUID | None, set[UUID]]:
        """Return the id of the worker (None before ``sign``) and the ids of the running jobs."""
        raw = bytes(self._memory)
        end = len(raw) - ID * self._is_counted
        owner, *jobs = (raw[start : start + ID] for start in range(0, end, ID))
        running = {UUID(bytes=one) for one in jobs if one != EMPTY}
        return (None if owner == EMPTY else UUID(bytes=owner)), running

    def _write(self, index: int, content: bytes) -> None:
        self._memory[index * ID : (index + 1) * ID] = content
