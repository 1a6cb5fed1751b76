"""Tasks that the tests enqueue; worker processes find them by autodiscovery."""

import asyncio
import os
import signal
from datetime import timedelta
from typing import Any

from django.db import transaction

from aftercommit import task
from tests.app.models import Effect

SOON = timedelta(milliseconds=20)


@task
def add(first: int, second: int) -> int:
    """Return a sum; touches no table."""
    return first + second


@task(max_attempts=3, backoff=SOON)
def plain_effect(key: str) -> str:
    """Leave one row, in autocommit."""
    Effect.objects.create(key=key)
    return key


@task(atomic=True, max_attempts=3, backoff=SOON)
def atomic_effect(key: str) -> str:
    """Leave one row, together with the completion."""
    Effect.objects.create(key=key)
    return key


@task(takes_context=True, max_attempts=3, backoff=SOON)
def committed_effect(context: Any, key: str) -> None:
    """Leave one row at the end, together with the completion."""
    with context.commit() as finish:
        Effect.objects.create(key=key, job_id=context.job_id)
        finish.return_value = key


@task
async def async_effect(key: str) -> str:
    """Leave one row from a coroutine."""
    await asyncio.sleep(0)
    await Effect.objects.acreate(key=key)
    return key


@task(max_attempts=3, backoff=SOON)
def fail(text: str) -> None:
    """Raise."""
    raise ValueError(text)


@task(max_attempts=3, backoff=SOON)
def kill_worker(number: int = signal.SIGKILL) -> None:
    """End the process that runs it."""
    os.kill(os.getpid(), number)


@task(atomic=True, max_attempts=2, backoff=SOON)
def roll_back(key: str) -> None:
    """Leave a row that its own transaction will not keep."""
    Effect.objects.create(key=key)
    transaction.set_rollback(True)


@task
async def async_child_exits(key: str) -> str:
    """Leave a coroutine behind that raises what ends an event loop."""

    async def leave() -> None:
        raise SystemExit(key)

    child = asyncio.create_task(leave())
    await asyncio.sleep(0)
    return str(child.get_name())


@task
def total(numbers: list[int], *, plus: int = 0) -> int:
    """Return a sum; the numbers may be results of other tasks."""
    return sum(numbers) + plus


@task
def echo(*args: Any, **kwargs: Any) -> list[Any]:
    """Return what was given."""
    return [list(args), kwargs]
