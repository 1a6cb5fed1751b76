"""How many jobs a claim may bring, by the size of their arguments."""

from collections.abc import Sequence

MOST_BYTES = 64 * 1024 * 1024  # of arguments and of results that wait to be written
FORGET = 0.75  # of the largest size, with each claim of smaller ones


class PayloadBudget:
    """Keeps the texts that a process holds for one database alias within ``MOST_BYTES``.

    A size is known only when the row was read, so the next jobs are expected to be as large
    as the largest of the latest claims. One job for each thread is always allowed.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._largest = 0.0  # bytes

    def claimed(self, sizes: Sequence[int]) -> None:
        """Note the sizes of the jobs of a claim."""
        if sizes:
            self._largest = max(*sizes, self._largest * FORGET)

    def jobs(self, sizes: Sequence[int]) -> int:
        """Return how many more jobs may be claimed; ``sizes``: of those that are held now."""
        fitting = int(max(MOST_BYTES - sum(sizes), 0) / max(self._largest, 1))
        return max(fitting, self._threads - len(sizes), 0)
