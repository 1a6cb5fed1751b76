"""A task that leaks descriptors."""

import os
import time
from contextlib import suppress
from datetime import timedelta

from aftercommit import task
from aftercommit.worker import descriptors
from tests.app.notes import note, pass_gate

leaked: list[int] = []
TRIES, BETWEEN_TRIES = 100, timedelta(milliseconds=20)


@task(takes_context=True, max_attempts=5)
def leak(context, key: str, number: int) -> str:
    """Open so many and close none."""
    note("leak", key=key, job=context.job_id)
    leaked.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(number))
    return key


@task(takes_context=True, max_attempts=1)
def leak_on(context, key: str, first: str, gate: str) -> str:
    """Open all that there are, and go on when that has been noticed."""
    descriptors.STILL_OPENING = timedelta(minutes=5)  # longer than the test takes
    note("leak", key=key, job=context.job_id)
    pass_gate(first)
    open_all()
    pass_gate(gate)
    for _ in range(TRIES):  # a thread that fails to connect gives back what it had got so far
        open_all()
        time.sleep(BETWEEN_TRIES.total_seconds())
    return key


def open_all() -> None:
    """Open files until there are no numbers left."""
    with suppress(OSError):
        while True:
            leaked.append(os.open(os.devnull, os.O_RDONLY))
