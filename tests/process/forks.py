"""Tasks that fork, and whose children come back as if they were the worker."""

import os
from typing import Any

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of
from tests.app.models import Effect
from tests.app.notes import note


class FromTheFork(Exception):
    """Raised by a child, for the worker's code around it."""


def fork(key: str, *, raises: bool) -> bool:
    """Return True in the child; in the parent False, once the child is gone."""
    if child := os.fork():
        _pid, status = os.waitpid(child, 0)
        note("fork_ended", key=key, child=child, status=status)
        return False
    if raises:
        raise FromTheFork(key)
    return True


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def plain(context: Any, key: str, raises: bool = False) -> str:
    """Leave one row in autocommit, then fork."""
    with run_of(context, key):
        leave_effect(context, key)
        fork(key, raises=raises)
    return key


@task(takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON)
def atomic(context: Any, key: str, raises: bool = False) -> str:
    """Leave one row, then fork, all in the transaction of the completion."""
    leave_effect(context, key)
    fork(key, raises=raises)
    return key


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
def committed(context: Any, key: str, raises: bool = False) -> None:
    """Fork in the block that commits."""
    with context.commit() as finish:
        leave_effect(context, key)
        fork(key, raises=raises)
        finish.return_value = key


@task(takes_context=True, max_attempts=OFTEN, backoff=SOON)
async def coroutine(context: Any, key: str, raises: bool = False) -> str:
    """Leave one row from a coroutine, then fork."""
    await Effect.objects.acreate(key=key, job_id=context.job_id, value=os.getpid())
    fork(key, raises=raises)
    return key


KINDS = (plain, atomic, committed, coroutine)
