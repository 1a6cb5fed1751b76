"""Tasks that let no other thread of their process have its turn, or cut what it is tied to."""

import ctypes
import os
import re
import signal
import time
from collections.abc import Callable
from datetime import timedelta

from aftercommit import task
from tests.app.notes import note

SOON = timedelta(milliseconds=20)
LONG = 600  # seconds: longer than any test waits


def _stop() -> None:
    """Stop the process; that may take effect a moment after the call."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(1)


HARMS: dict[str, Callable[[], object]] = {
    "expression": lambda: re.match("(a+)+$", "a" * 60 + "b"),
    "sleep": lambda: ctypes.PyDLL(None).sleep(LONG),
    "stopped": _stop,
    "descriptors": lambda: os.closerange(3, 256),
}


@task(takes_context=True, max_attempts=5, backoff=SOON)
def harm(context, name: str) -> str:
    """Do it."""
    note("harm", name=name, job=context.job_id)
    HARMS[name]()
    return name


@task(takes_context=True, max_attempts=5, backoff=SOON, atomic=True)
def harm_atomic(context, name: str) -> str:
    """Do it in a transaction."""
    note("harm", name=name, job=context.job_id)
    HARMS[name]()
    return name
