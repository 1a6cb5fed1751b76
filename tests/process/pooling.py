"""Tasks that fork processes by multiprocessing."""

import multiprocessing
import os
import signal
import time

from django.db import connection

from aftercommit import task
from tests.app.models import Effect
from tests.app.notes import note

FORK = multiprocessing.get_context("fork")


def twice(number: int) -> int:
    """Compute, and write by Django."""
    Effect.objects.create(key=f"of child {number}")
    return 2 * number


@task
def pool(numbers: list[int]) -> list[int]:
    """Compute by a pool, and end it as its context does: by SIGTERM."""
    Effect.objects.create(key="before")
    with FORK.Pool(2) as workers:
        found = workers.map(twice, numbers)
    Effect.objects.create(key="after")
    return found


@task(atomic=True)
def pool_in_a_transaction(numbers: list[int]) -> list[int]:
    """Do it while a transaction is open."""
    Effect.objects.create(key="before")
    with FORK.Pool(2) as workers:
        found = workers.map(plainly, numbers)
    Effect.objects.create(key="after")
    return found


def plainly(number: int) -> int:
    """Compute only."""
    return 2 * number


def wait() -> None:
    """Stay for long."""
    time.sleep(600)


@task
def children_obey(key: str) -> list[int]:
    """Send each stop signal to a child; return how they ended."""
    ends = []
    for number in (signal.SIGTERM, signal.SIGHUP):  # a shell may let the others be ignored
        child = FORK.Process(target=wait)
        child.start()
        os.kill(child.pid or 0, number)
        child.join(20)
        ends.append(child.exitcode or 0)
        child.kill()
    return ends


def stay(key: str) -> None:
    """Stay behind when the worker is killed, and say so."""
    os.setsid()
    note("stays", key=key, child=os.getpid(), open=open_sockets())
    time.sleep(600)


def open_sockets() -> int:
    """Count what is open to a server or a parent, and session locks."""
    found = 0
    for file in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{file}")
            found += link.startswith("socket:") or link.endswith(".lock")
        except OSError:
            continue
    return found


@task(max_attempts=3)
def leave_a_child(key: str) -> str:
    """Fork a child, then be killed; the second run succeeds."""
    if not Effect.objects.filter(key=key).exists():
        Effect.objects.create(key=key)
        connection.ensure_connection()
        child = FORK.Process(target=stay, args=[key])
        child.start()
        time.sleep(600)
    return key
