"""How long the bodies of a task take."""

from datetime import timedelta

SHORT = timedelta(milliseconds=2)
FIRST_RUNS = 4  # alone, before anything is concluded from them
WEIGHT = 1 / 16  # of the latest run in the mean
WEIGHT_OF_GUESS = 1 / 64
CALM = 2  # bodies at once that hardly keep each other waiting


class Pace:
    """Follows the mean: one run of a second, and the next hundred are not expected to be short.

    The longest would not do: a body that waits for a thread that computes looks long.
    """

    def __init__(self) -> None:
        self._runs = 0
        self._mean = 0.0  # seconds
        self._apart = False
        self.careful = False  # its bodies have raised before a savepoint was set

    def took(self, seconds: float, *, among: int = 1) -> None:
        """Note how long a body has run, of ``among`` bodies at once.

        In a crowd most of it is waiting for the interpreter: its share is a guess, right for
        those that compute, too short for those that wait for others. Once they are
        expected to be short, they run in calm, and are measured.
        """
        self._runs += 1
        calm = among <= CALM
        weight = max(WEIGHT if calm else WEIGHT_OF_GUESS, 1 / self._runs)
        self._mean += ((seconds if calm else seconds / among) - self._mean) * weight

    def keep_apart(self) -> None:
        """Never again call this task short: it says what others must not hear."""
        self._apart = True

    @property
    def short(self) -> bool:
        """Whether a run may be expected to be over at once."""
        expected = self._mean if self._runs >= FIRST_RUNS else float("inf")
        return expected < SHORT.total_seconds() and not self._apart
