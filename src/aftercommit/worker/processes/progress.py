"""How far the worker processes of a supervisor are."""

from mmap import mmap

SIZE = 8  # bytes of a number


class Progress:
    """What they have reported, in memory that forks of this process share."""

    def __init__(self) -> None:
        self._numbers = memoryview(mmap(-1, 2 * SIZE)).cast("B").cast("q")

    @property
    def done(self) -> int:
        """How many runs were recorded."""
        return self._numbers[0]

    @property
    def running(self) -> int:
        """How many claimed jobs have no recorded outcome yet."""
        return self._numbers[1]

    def note(self, *, done: int, running: int) -> None:
        """Write down how far they are now."""
        self._numbers[0], self._numbers[1] = done, running
