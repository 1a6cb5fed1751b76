"""The job of a call: its arguments as they are stored, its keys, and what its task says."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from aftercommit._compat import BaseTask
from aftercommit.enqueue.fair import in_turn
from aftercommit.enqueue.limits import limit_key_of
from aftercommit.enqueue.names import stored_name
from aftercommit.enqueue.payload import check_meta, dump_arguments, with_moment, with_schedule
from aftercommit.enqueue.policy import goes_with_success, max_attempts_of
from aftercommit.enqueue.rates import rate_key_of
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.sealing import sealing
from aftercommit.enqueue.signature import check_call
from aftercommit.enqueue.task import BuiltInTask, Task
from aftercommit.enqueue.unique import keyed
from aftercommit.errors import HoldsSecret
from aftercommit.options.conf import BackendOptions
from aftercommit.options.tags import stored_tags
from aftercommit.places import with_limit
from aftercommit.values import NewJob, Scheduled


def new_job(
    task: Task,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    *,
    backend: str,
    options: BackendOptions,
    meta: dict[str, Any] | None,
    has_holes: bool,
    scheduled: Scheduled | None,
) -> NewJob:
    """Return the job for a call of a valid task; see the method of ``DatabaseBackend``."""
    path, limit = task.module_path, options.max_payload
    if meta:
        check_meta(meta, task_path=path, limit=limit)
    secrets = None
    try:
        payload = payload_of(task, args, kwargs, options, has_holes=has_holes)
    except HoldsSecret:
        secrets = sealing(path, args, kwargs, options)
        check_call(task, args, kwargs)
        payload = _stored(task, secrets.for_keys, limit=limit if has_holes else None)
    payload = with_schedule(payload, scheduled) if scheduled else payload
    job = job_of(task, payload, backend=backend, options=options, meta=meta)
    job = job if option(task, "unique") is None else keyed(job, task)
    return job if secrets is None else secrets.into(job, moment_of(task), has_holes=has_holes)


def payload_of(
    task: Task,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    options: BackendOptions,
    *,
    has_holes: bool,
) -> str:
    """Return the arguments of a call, checked, as they are stored; raises ``HoldsSecret``."""
    path, limit = task.module_path, options.max_payload
    strict = options.strict_json
    payload = dump_arguments(args, kwargs, task_path=path, limit=limit, strict=strict)
    check_call(task, args, kwargs)
    return _stored(task, payload, limit=limit if has_holes else None)


def _stored(task: Task, payload: str, *, limit: int | None) -> str:
    """Add to the arguments what is kept with them; ``limit``: that of results put into them."""
    payload = payload if limit is None else with_limit(payload, limit)
    return with_moment(payload, moment_of(task))


def moment_of(task: BaseTask) -> datetime | None:
    """Return ``run_after`` to keep with the call, but not with calls of ``schedule()``.

    ``deschedule()`` finds those by equal payloads.
    """
    return None if isinstance(task, BuiltInTask) else task.run_after


def job_of(
    task: Task,
    payload: str,
    *,
    backend: str,
    options: BackendOptions,
    meta: dict[str, Any] | None = None,
) -> NewJob:
    """Return the job for arguments as they are stored, without a unique key."""
    rate_key = rate_key_of(task, payload)
    job = NewJob(
        task_path=stored_name(task),
        payload=payload,
        backend=backend,
        queue=task.queue_name,
        priority=int(task.priority),
        run_after=task.run_after,
        max_attempts=max_attempts_of(task, options),
        meta=meta or {},
        # Also without a limit: claims decide about jobs with such a key one by one.
        limit_key=limit_key_of(task, payload) or rate_key,
        rate_key=rate_key,
        tags=stored_tags(option(task, "tags", ())),
        goes_with_success=goes_with_success(task, options),
    )
    return in_turn(job, task)
