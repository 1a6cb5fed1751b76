"""A terminal for the workers of a test."""

import contextlib
import os
import pty
import re
import threading
from collections.abc import Iterator

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """A pseudo-terminal, and all that was written on it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.text = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # nobody writes any more
            while part := os.read(self._ours, 4096):
                self.text += COLOURS.sub("", part.decode(errors="replace"))

    def close(self) -> None:
        """Take it away."""
        os.close(self.theirs)
        os.close(self._ours)


@contextlib.contextmanager
def open_screen() -> Iterator[Screen]:
    """Give a terminal for as long as the block lasts."""
    screen = Screen()
    try:
        yield screen
    finally:
        screen.close()
