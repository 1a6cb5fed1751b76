"""Tasks of the three kinds that say when they begin, and last as long as they are told.

``lasting`` is their work, in seconds; ``gate`` is the name of a file to wait for.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import Any

from aftercommit import Cancel, Discard, Retry, Snooze, task
from tests.app.models import Effect
from tests.app.notes import FOLDER, note, pass_gate

SOON = timedelta(milliseconds=20)
A_MINUTE = 60  # seconds: much longer than the worker waits for a task that does not react
OFTEN = 50  # attempts: no fault of ours may use them up


@contextmanager
def run_of(context: Any, key: str) -> Iterator[None]:
    """Note the first and the last line of a run."""
    note("begin", key=key, job=context.job_id)
    yield
    note("end", key=key, job=context.job_id)


def leave_effect(context: Any, key: str) -> None:
    """Leave one row that names its job and its process."""
    Effect.objects.create(key=key, job_id=context.job_id, value=os.getpid())


def work(lasting: float, gate: str) -> None:
    """Use up time, as a real task does."""
    Event().wait(lasting)
    if gate:
        pass_gate(gate)


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def plain(context: Any, key: str, lasting: float = 0, gate: str = "") -> str:
    """Work, then leave one row in autocommit."""
    with run_of(context, key):
        work(lasting, gate)
        leave_effect(context, key)
    return key


@task(takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON)
def atomic(context: Any, key: str, lasting: float = 0, gate: str = "") -> str:
    """Leave one row, then work, all in the transaction of the completion."""
    with run_of(context, key):
        leave_effect(context, key)
        work(lasting, gate)
    return key


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def committed(context: Any, key: str, lasting: float = 0, gate: str = "") -> None:
    """Work, then leave one row together with the completion."""
    with run_of(context, key):
        work(lasting, gate)
        with context.commit() as finish:
            leave_effect(context, key)
            finish.return_value = key


KINDS = (plain, atomic, committed)


@task(takes_context=True)
async def slow_coroutine(context: Any, key: str, lasting: float) -> str:
    """Work without a thread of its own."""
    note("begin", key=key, job=context.job_id)
    await asyncio.sleep(lasting)
    note("end", key=key, job=context.job_id)
    return key


@task(takes_context=True, timeout=timedelta(milliseconds=300), max_attempts=2, backoff=SOON)
def overdue(context: Any, key: str) -> None:
    """Take longer than allowed, in steps that an interrupt can reach."""
    note("begin", key=key, job=context.job_id)
    pause = Event()
    for _step in range(1000):
        pause.wait(0.02)


@task(takes_context=True, timeout=timedelta(milliseconds=300), max_attempts=2, backoff=SOON)
async def overdue_coroutine(context: Any, key: str) -> None:
    """Take longer than allowed."""
    note("begin", key=key, job=context.job_id)
    await asyncio.sleep(20)


@task(takes_context=True)
def until_cancelled(context: Any, key: str) -> None:
    """Go on until someone asks for an end."""
    note("begin", key=key, job=context.job_id)
    pause = Event()
    while True:
        pause.wait(0.02)


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def segfault(context: Any, key: str) -> None:
    """End the process that runs it, as a broken C library would."""
    note("begin", key=key, job=context.job_id)
    os.kill(os.getpid(), signal.SIGSEGV)


@task
def pass_on(key: str) -> None:
    """Leave the work to another job."""
    plain.enqueue(key)


@task
def first_line_after(key: str) -> None:
    """Tell what the worker has loaded of a module that a test changes; see ``--reload``."""
    module = sys.modules["version"]
    note("version", key=key, loaded=[name for name in vars(module) if not name.startswith("_")])


def scheduled(key: str) -> str:
    """Leave one row; a plain function, for ``schedule()``."""
    Effect.objects.create(key=key, value=os.getpid())
    return key


def scheduled_and_broken(key: str) -> None:
    """Leave a row and raise, so that the row goes as well."""
    Effect.objects.create(key=key)
    raise ValueError(key)


@task(backend="other", takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON)
def atomic_elsewhere(context: Any, key: str) -> str:
    """Leave one row in the other database, where the job is as well."""
    with run_of(context, key):
        Effect.objects.using("other").create(key=key, job_id=context.job_id)
    return key


def arrive(context: Any, key: str) -> None:
    """Begin, and wait for the gate of this process tree: the test decides who goes on first."""
    note("begin", key=key, job=context.job_id)
    pass_gate(f"go-{os.getsid(0)}")


def act_as_told(key: str) -> None:
    """End as ``key`` says if this process is to behave like a zombie."""
    if Path(os.environ[FOLDER], f"zombie-{os.getsid(0)}").exists():
        note("last_act", key=key)
        if error := LAST_ACTS.get(key):
            raise error


LAST_ACTS = {
    "fails": ValueError("too late"),
    "asks for a retry": Retry(SOON),
    "snoozes": Snooze(SOON),
    "cancels": Cancel("too late"),
    "discards": Discard("too late"),
}


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def restless(context: Any, key: str) -> None:
    """Fail once, then ask to run much later."""
    if context.attempt == 1:
        raise ValueError(key)
    raise Snooze(timedelta(hours=1))


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def act_plainly(context: Any, key: str) -> None:
    """Act, in autocommit."""
    arrive(context, key)
    act_as_told(key)
    leave_effect(context, key)


@task(takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON)
def act_atomically(context: Any, key: str) -> None:
    """Act, in the transaction of the completion."""
    leave_effect(context, key)
    arrive(context, key)
    act_as_told(key)


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def act_and_commit(context: Any, key: str) -> None:
    """Act, together with the completion."""
    arrive(context, key)
    with context.commit():
        act_as_told(key)
        leave_effect(context, key)


def _read_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.recv(1)


WAITS = {
    "sleep": lambda: time.sleep(A_MINUTE),
    "socket": _read_a_socket,
    "lock": lambda: Event().wait(A_MINUTE),
    "process": lambda: subprocess.run(["sleep", str(A_MINUTE)], check=True),
}


@task(takes_context=True, timeout=timedelta(milliseconds=300), max_attempts=1)
def overdue_in_c(context: Any, key: str) -> None:
    """Take longer than allowed, in one call into C."""
    note("begin", key=key, job=context.job_id)
    WAITS[key]()


@task(takes_context=True)
def waiting_in_c(context: Any, key: str) -> None:
    """Wait for a minute in one call into C."""
    note("begin", key=key, job=context.job_id)
    WAITS[key]()
