"""schedule() and deschedule(): plain functions as jobs, with the names of Django Async."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from inspect import isfunction
from typing import Any

from django.db import transaction

from aftercommit._compat import is_task
from aftercommit.enqueue.allowed import A_TASK, function_at
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backend
from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.gather import insert_gathered
from aftercommit.enqueue.group_references import group_for
from aftercommit.enqueue.group_results import GroupResult, let_belong
from aftercommit.enqueue.payload import load_arguments
from aftercommit.enqueue.results import JobResult
from aftercommit.enqueue.task import BuiltInTask, FunctionTask
from aftercommit.errors import ConfigurationError, NotAFunction
from aftercommit.options.backoff import Backoff, BackoffOption, read_backoff, stored_backoff

RUN_FUNCTION = "aftercommit.schedules.run_function"  # its name in rows since 0.1.0
# Another name: workers of earlier versions leave these calls to others.
RUN_WITH_BACKOFF = "aftercommit.schedules.run_function_with_backoff"
Function = str | Callable[..., Any]
NOT_AT_THE_TOP = "it is not a function at the top of a module"


def run_function(
    context: Any, path: str, args: list[Any], kwargs: dict[str, Any], backend: str
) -> Any:
    """Run the function that ``path`` names, if the allow-list of the job's backend covers it."""
    own = context.task_result.backend
    if backend != own:
        raise ConfigurationError(
            f"A job of the backend {own!r} asks for the functions that the backend {backend!r} "
            "allows.\n"
            "schedule() writes no such job, so somebody has changed its row; it is not run.\n"
            "Fix: schedule() it again with backend=."
        )
    return function_at(path, _backend(own).config)(*args, **kwargs)


def run_function_with_backoff(
    context: Any,
    path: str,
    args: list[Any],
    kwargs: dict[str, Any],
    backend: str,
    *,
    backoff: dict[str, Any],
) -> Any:
    """Do as ``run_function``; the worker reads ``backoff`` if this fails."""
    return run_function(context, path, args, kwargs, backend)


def backoff_of(payload: str) -> Backoff:
    """Return the backoff of a call of the function above; raises if there is none."""
    return read_backoff(load_arguments(payload)[1]["backoff"])


def schedule(  # noqa: PLR0913 - most of them are Django Async's
    function: Function,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    priority: int = 0,
    run_after: datetime | None = None,
    group: str | GroupResult | None = None,
    meta: dict[str, Any] | None = None,
    backend: str = "default",
    max_attempts: int | None = None,
    backoff: BackoffOption | None = None,
) -> JobResult:
    """Enqueue a plain function, given as itself or as ``'package.module.function'``.

    The job is part of the caller's transaction. The function is run in a transaction of its
    own together with the completion of the job (``atomic``). ``priority`` is -100 to 100,
    higher first; ``run_after`` an aware moment (default: at once); ``meta`` a JSON object
    that is stored with the job. ``group``: a group of which no job has ended, or a name: the
    job is added to the newest group of that name, or to a new one if that has ended. Two
    transactions that make the first job of a name at the same time make a group each.
    ``max_attempts`` and ``backoff``: as those of a task, by default the backend's.

    Raises ``FunctionNotAllowed`` for a function that ``OPTIONS['allowed_functions']``
    does not cover (default: public functions of the project's own apps), ``NotAFunction`` for
    something that cannot be named by path, ``PayloadError`` for arguments that are not
    JSON.
    """
    chosen = _backend(backend)
    path = _path_of(function)
    function_at(path, chosen.config)
    plain, with_backoff = register_function_tasks(chosen)
    task = plain if backoff is None else with_backoff
    task = task.using(priority=priority, run_after=run_after, max_attempts=max_attempts)
    call = _call(path, args, kwargs, backend)
    by_name = {} if backoff is None else {"backoff": stored_backoff(backoff)}
    job = chosen.new_job(task, call, by_name, meta={**(meta or {}), "function": path})
    if group is None:
        return chosen.insert_job(task, job)
    with transaction.atomic(using=chosen.using):
        insert_gathered(chosen.using)
        held = group_for(group, using=chosen.using)
        result = chosen.insert_job(task, replace(job, needed=True))
        insert_gathered(chosen.using)
        let_belong(chosen.store, held, [job.id])
        return result


def deschedule(
    function: Function,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    backend: str = "default",
) -> int:
    """Cancel the jobs of ``schedule()`` with exactly these arguments that have not started.

    Returns how many were cancelled. Part of the caller's transaction, as ``schedule()`` is.
    """
    chosen = _backend(backend)
    plain, _with_backoff = register_function_tasks(chosen)
    job = chosen.new_job(plain, _call(_path_of(function), args, kwargs, backend), {})
    if job.payload_for is not None:
        raise ConfigurationError(
            f"deschedule() cannot find the calls of {_path_of(function)} with these arguments: "
            "one is a Secret, and each call encrypts it anew. Nothing was cancelled.\n"
            "Fix: keep the id of the result of schedule(), and cancel that job."
        )
    insert_gathered(chosen.using)
    store, payload = chosen.store, job.payload
    ended = [*store.cancel_equal(task_path=RUN_FUNCTION, payload=payload)]
    # The same call with its backoff at the end.
    begin = payload.removesuffix("{}}") + '{"backoff":'
    ended += store.cancel_equal(task_path=RUN_WITH_BACKOFF, payload=begin, begins=True)
    send_finished(store, ended)
    return len(ended)


def register_function_tasks(backend: DatabaseBackend) -> tuple[BuiltInTask, FunctionTask]:
    """Return the tasks that run functions by name on this backend: as it says, or the call."""
    queues = backend.queues
    queue = "default" if not queues or "default" in queues else sorted(queues)[0]
    alike: dict[str, Any] = {
        "backend": backend.alias,
        "queue_name": queue,
        "priority": 0,
        "run_after": None,
        "takes_context": True,
        "atomic": True,
    }
    return (
        BuiltInTask(path=RUN_FUNCTION, func=run_function, **alike),
        FunctionTask(
            path=RUN_WITH_BACKOFF,
            func=run_function_with_backoff,
            backoff_of=backoff_of,
            **alike,
        ),
    )


def _call(
    path: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, backend: str
) -> list[Any]:
    """Return the arguments of ``run_function``; equal calls have equal payloads."""
    return [path, list(args), dict(sorted((kwargs or {}).items())), backend]


def _backend(alias: str) -> DatabaseBackend:
    return our_backend(alias, needed_by="schedule()")


def _path_of(function: Function) -> str:
    if isinstance(function, str):
        return function
    if is_task(function):
        raise NotAFunction(path=getattr(function, "module_path", ""), problem=A_TASK)
    if not isfunction(function):  # a partial, a method, an instance: they have no path
        name = getattr(function, "__qualname__", f"<{type(function).__qualname__}>")
        raise NotAFunction(path=name, problem=NOT_AT_THE_TOP)
    path = f"{function.__module__}.{function.__qualname__}"
    if "<" in path:
        raise NotAFunction(path=path, problem=NOT_AT_THE_TOP)
    return path
