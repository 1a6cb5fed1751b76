"""``context_for()``: the context of a task, for a test that calls the task's function."""

import json
from collections.abc import Sequence
from typing import Any

from aftercommit.values import Scheduled
from aftercommit.worker.detached import DetachedContext, detached_context


def context_for(
    task: Any,
    *,
    attempt: int = 1,
    cancelled: bool = False,
    saved: Any = None,
    schedule: Scheduled | None = None,
    tags: Sequence[str] = (),
) -> DetachedContext:
    """Return a context with which ``task.call(context, ...)`` calls the function.

    It does what that of a worker does, but for the tables of jobs: ``commit()`` opens a
    transaction and may be called once, ``checkpoint()`` raises if the job is ``cancelled``,
    ``saved`` is a checkpoint of an earlier run, and ``once()`` calls. ``attempt``: 1 for the
    first run. ``schedule``: what ``context.schedule`` is. ``tags`` are added to the task's.

    ``context.recorded`` has what the function did with it: ``committed`` and ``return_value``
    of ``commit()``, ``progress``, ``log``, ``saved`` (JSON), ``answers`` (JSON) and
    ``paused_until``.
    """
    return detached_context(
        task,
        attempt=attempt,
        cancelled=cancelled,
        saved=None if saved is None else json.dumps(saved),
        schedule=schedule,
        tags=tags,
    )
