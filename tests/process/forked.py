"""Looked at by a task: what its process has of its parent."""

import atexit
import os
import random
import sys
import time
from pathlib import Path

from aftercommit import task
from tests.app.notes import note

PRIVATE = ("Private_Clean:", "Private_Dirty:")  # what no other process uses


@task
def look_around(key: str, rest: float = 0) -> None:
    """Note it, then leave time for another process."""
    note(
        "looked",
        key=key,
        parent=os.getppid(),
        private=private_memory(),
        command=Path("/proc/self/cmdline").read_bytes().decode().split("\0"),
        stdin=os.readlink("/proc/self/fd/0"),
        number=random.random(),
    )
    time.sleep(rest)


@task
def say_goodbye(key: str) -> None:
    """Register what the process is to do at its end."""
    atexit.register(note, "left", key=key)
    sys.stdout.write("half a line")


def private_memory() -> int:
    """Return how many kB this process has for itself."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(PRIVATE))
