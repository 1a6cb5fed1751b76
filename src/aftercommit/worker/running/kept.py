"""What a run keeps for the next run of its job: the checkpoint, and answers of calls."""

import json
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any
from uuid import UUID, uuid5

from asgiref.sync import sync_to_async

from aftercommit.enqueue.payload import dump_result
from aftercommit.enqueue.transactions import open_aliases
from aftercommit.errors import ClaimLost, InsideTransaction
from aftercommit.printable import one_line
from aftercommit.worker.notes import RunNotes

LONGEST_NAME = 100  # characters
WOULD_BE_LOST = (
    "A rollback would take the record of the call with it, and the next run would call again; "
    "the function was not called."
)
BEFORE = (
    "Fix: call it before the block. A task with atomic=True: declare it without, and write the "
    "effects in a block of context.commit() after the call."
)


def save(notes: RunNotes, value: Any) -> None:
    """Write a checkpoint; raises ``ClaimLost`` and as ``dump_result`` does."""
    text = _dump(notes, value, "the checkpoint")
    run = notes.run
    if run.lost or not notes.keeper.save(run, text):
        raise ClaimLost(job_id=run.claim.job_id)
    notes.has_saved = True


def saved(notes: RunNotes) -> Any:
    """Return the checkpoint, None without one; raises ``ClaimLost``."""
    if notes.run.claim.token == 1 and not notes.has_saved:
        return None  # this is the first run of the job
    text = notes.keeper.saved(notes.run)
    return None if text is None else json.loads(text)


def once(
    notes: RunNotes,
    name: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Return the recorded answer of a call, or call the function and record its answer."""
    if iscoroutinefunction(function):
        raise TypeError("context.once() calls plain functions: await context.aonce() instead.")
    known = _known(notes, name)
    if name in known:
        return json.loads(known[name])
    return _record(notes, name, function(*args, **kwargs))


async def aonce(
    notes: RunNotes,
    name: str,
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> Any:
    """Do the same from a coroutine; the function may be one, or a plain one."""
    known = await sync_to_async(_known)(notes, name)
    if name in known:
        return json.loads(known[name])
    call = function if iscoroutinefunction(function) else sync_to_async(function)
    value = await call(*args, **kwargs)
    return await sync_to_async(_record)(notes, name, value)


def key_for(job_id: str, name: str) -> str:
    """Return the idempotency key of a call of a job."""
    return str(uuid5(UUID(job_id), _checked(name)))


def _known(notes: RunNotes, name: str) -> dict[str, str]:
    """Return the recorded answers; reads them once, and not in the first run of a job."""
    _checked(name)
    run, keeper = notes.run, notes.keeper
    if run.lost:
        raise ClaimLost(job_id=run.claim.job_id)
    if keeper.alias in (using := open_aliases()):
        raise InsideTransaction(
            what="context.once()", using=using, in_test=False, why=WOULD_BE_LOST, fix=BEFORE
        )
    if notes.answers is None:
        notes.answers = {} if run.claim.token == 1 else keeper.answers(run)
    return notes.answers


def _record(notes: RunNotes, name: str, value: Any) -> Any:
    text = _dump(notes, value, f"the answer of {name!r}")
    recorded = notes.keeper.record(notes.run, name, text)
    if notes.answers is not None:
        notes.answers[name] = recorded
    return json.loads(recorded)


def _dump(notes: RunNotes, value: Any, what: str) -> str:
    policy, task = notes.run.facts.policy, notes.run.facts.task
    return dump_result(
        value,
        task_path=task.module_path,
        limit=policy.max_payload,
        strict=policy.strict_json,
        what=what,
    )


def _checked(name: str) -> str:
    fits = isinstance(name, str) and 0 < len(name) <= LONGEST_NAME
    if not fits or name != name.strip() or one_line(name) != name:
        raise ValueError(
            f"The name of a call: expected 1 to {LONGEST_NAME} printable characters, without "
            f"spaces around them, got {name!r:.200}."
        )
    return name
