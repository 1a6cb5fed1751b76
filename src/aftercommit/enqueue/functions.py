"""schedule() and deschedule(): plain functions as jobs, with the names of Django Async."""

import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from inspect import isfunction
from pathlib import Path
from typing import Any

from django.apps import apps

from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.results import JobResult
from aftercommit.enqueue.task import BuiltInTask
from aftercommit.errors import ConfigurationError, FunctionNotAllowed, NotAFunction

HERE = str(Path(__file__).parent)
RUN_FUNCTION = "aftercommit.schedules.run_function"  # its name in rows since 0.1.0
Function = str | Callable[..., Any]


def run_function(path: str, args: list[Any], kwargs: dict[str, Any], backend: str) -> Any:
    """Run the function that ``path`` names, if the allow-list covers it."""
    return _function_at(path, _backend(backend))(*args, **kwargs)


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
    does not cover (default: the installed apps of the project), ``NotAFunction`` for
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
    _function_at(path, chosen)
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
        takes_context=False,
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
    path = f"{function.__module__}.{function.__qualname__}"
    if "<" in path or not isfunction(function):
        raise NotAFunction(path=path, problem="it is not a function at the top of a module")
    return path


def _function_at(path: str, backend: DatabaseBackend) -> Callable[..., Any]:
    """Return the function at a path; no module is imported unless the allow-list covers it."""
    module_name, _, name = path.rpartition(".")
    allowed = _allowed(backend)
    if not any(path == one or path.startswith(f"{one}.") for one in allowed):
        raise FunctionNotAllowed(path=path, allowed=allowed)
    try:
        module = sys.modules.get(module_name) or import_module(module_name)
    except (ImportError, ValueError) as error:
        raise NotAFunction(
            path=path, problem=f"its module cannot be imported ({error})"
        ) from error
    function = getattr(module, name, None)
    if not isfunction(function):
        raise NotAFunction(path=path, problem="the module has no function of that name")
    if function.__module__ != module_name and path not in allowed:
        # An allowed module may import os.system; that does not make it allowed.
        defined = f"{function.__module__}.{function.__qualname__}"
        if not any(defined.startswith(f"{one}.") for one in allowed):
            raise FunctionNotAllowed(path=defined, allowed=allowed)
    return function


def _allowed(backend: DatabaseBackend) -> tuple[str, ...]:
    if backend.config.allowed_functions is not None:
        return backend.config.allowed_functions
    return tuple(config.name for config in apps.get_app_configs() if _is_own(config.path))


def _is_own(path: str) -> bool:
    """Return whether an app is the project's own, and no installed package (or this one)."""
    parts = Path(path).parts
    return not {"site-packages", "dist-packages"}.intersection(parts) and path != HERE
