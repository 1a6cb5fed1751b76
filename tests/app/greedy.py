"""Tasks that keep memory, and tasks that say which process has run them."""

from threading import Event
from typing import Any

from aftercommit import task
from tests.app.notes import note, pass_gate

MEGABYTE = 1024 * 1024
kept: list[bytearray] = []


def keep(megabytes: int) -> None:
    """Occupy so much more of the machine, for ever."""
    block = bytearray(megabytes * MEGABYTE)
    block[::4096] = b"x" * len(block[::4096])  # each page, or the system would give none
    kept.append(block)


@task(takes_context=True)
def leaky(context: Any, key: str, megabytes: int = 0) -> None:
    """Leak, and end."""
    note("ran", key=key, job=context.job_id)
    keep(megabytes)


@task(takes_context=True)
def insatiable(context: Any, key: str, megabytes: int) -> None:
    """Leak, and do not end: what is raised there is swallowed."""
    note("grown", key=key, job=context.job_id)
    keep(megabytes)
    while True:
        try:
            Event().wait(0.05)
        except BaseException as error:
            note("swallowed", key=key, what=type(error).__name__)


@task(takes_context=True)
def gated(context: Any, key: str, gate: str) -> None:
    """Wait for a file."""
    note("ran", key=key, job=context.job_id)
    pass_gate(gate)
