"""What happens inside other processes, written down for the test that started them.

A note survives what a row does not: a rollback, kill -9, a database that is away. All
processes of a machine share the clock of ``at``.
"""

import json
import os
import time
from pathlib import Path
from threading import Event
from typing import Any

FOLDER = "AFTERCOMMIT_TEST_NOTES"  # environment variable; without it nothing is written
GATES_GIVE_UP_AFTER = 60  # seconds; a test that failed must not leave a worker behind


def note(what: str, **facts: Any) -> None:
    """Add one line; whole lines, whoever else writes at the same time."""
    if not (folder := os.environ.get(FOLDER)):
        return
    process = {"pid": os.getpid(), "tree": os.getsid(0)}  # a session for each tree
    facts = {"what": what, "at": time.monotonic(), **process, **facts}
    file = os.open(Path(folder, "notes"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, json.dumps(facts).encode() + b"\n")
    finally:
        os.close(file)


def pass_gate(name: str) -> None:
    """Wait until the test opens a gate by making a file of this name."""
    file = Path(os.environ[FOLDER], name)
    pause = Event()
    ends = time.monotonic() + GATES_GIVE_UP_AFTER
    while not file.exists() and time.monotonic() < ends:
        pause.wait(0.005)
