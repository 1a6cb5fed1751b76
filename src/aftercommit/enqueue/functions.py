"""schedule() and deschedule(): plain functions as jobs, with the names of Django Async."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from inspect import isfunction
from typing import Any

from aftercommit._compat import is_task, task_backends
from aftercommit.enqueue.allowed import A_TASK, function_at
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.results import JobResult
from aftercommit.enqueue.task import BuiltInTask
from aftercommit.errors import ConfigurationError, NotAFunction

RUN_FUNCTION = "aftercommit.schedules.run_function"  # its name in rows since 0.1.0
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


def schedule(
    function: Function,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    priority: int = 0,
    run_after: datetime | None = None,
    group: str | None = None,
    meta: dict[str, Any] | None = None,
    backend: str = "default",
) -> JobResult:
    """Enqueue a plain function, given as itself or as ``'package.module.function'``.

    The job is part of the caller's transaction. The function is run in a transaction of its
    own together with the completion of the job (``atomic``). ``priority`` is -100 to 100,
    higher first; ``run_after`` an aware moment (default: at once); ``meta`` a JSON object
    that is stored with the job.

    Raises ``FunctionNotAllowed`` for a function that ``OPTIONS['allowed_functions']``
    does not cover (default: public functions of the project's own apps), ``NotAFunction`` for
    something that cannot be named by path, ``PayloadError`` for arguments that are not
    JSON.
    """
    if group is not None:
        raise ConfigurationError(
            f"schedule(group={group!r}): groups need dependencies between jobs, which this "
            "version does not have. Nothing was enqueued."
        )
    chosen = _backend(backend)
    path = _path_of(function)
    function_at(path, chosen.config)
    task = register_function_task(chosen).using(priority=priority, run_after=run_after)
    call = _call(path, args, kwargs, backend)
    return chosen.enqueue_with_meta(task, call, {**(meta or {}), "function": path})


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
    task = register_function_task(chosen)
    job = chosen.new_job(task, _call(_path_of(function), args, kwargs, backend), {})
    ended = chosen.store.cancel_equal(task_path=job.task_path, payload=job.payload)
    send_finished(chosen.store, ended)
    return len(ended)


def register_function_task(backend: DatabaseBackend) -> BuiltInTask:
    """Return the task that runs functions by name, on this backend."""
    queues = backend.queues
    queue = "default" if not queues or "default" in queues else sorted(queues)[0]
    return BuiltInTask(
        path=RUN_FUNCTION,
        func=run_function,
        backend=backend.alias,
        queue_name=queue,
        priority=0,
        run_after=None,
        takes_context=True,
        atomic=True,
    )


def _call(
    path: str, args: Sequence[Any], kwargs: Mapping[str, Any] | None, backend: str
) -> list[Any]:
    """Return the arguments of ``run_function``; equal calls have equal payloads."""
    return [path, list(args), dict(sorted((kwargs or {}).items())), backend]


def _backend(alias: str) -> DatabaseBackend:
    backend = task_backends[alias]
    if not isinstance(backend, DatabaseBackend):
        raise ConfigurationError(
            f"schedule() needs an aftercommit.DatabaseBackend; TASKS[{alias!r}] is "
            f"{type(backend).__qualname__}."
        )
    return backend


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
