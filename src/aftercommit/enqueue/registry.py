"""The tasks that were declared in this process, by their dotted paths."""

import sys
from contextlib import suppress
from inspect import unwrap
from types import ModuleType
from typing import Any, NamedTuple

from aftercommit._compat import InvalidTask, for_both
from aftercommit.enqueue.names import import_path, names_of

# What a worker takes from the declaration; the rest of a call is in its row.
FIXED = (
    "takes_context",
    "backoff",
    "retry_on",
    "discard_on",
    "atomic",
    "timeout",
    "keep_result",
    "name",
    "aliases",
    "limit",
    "limit_by",
    "ordered",
    "rate",
    "rate_by",
    "burst",
    "fair_by",
    "batch_size",
    "batch_wait",
    "signature",
    "version",
    "keep_log",
    "read_from",
    "upgrade",
    "cron",
    "every",
    "timezone",
    "catch_up",
    "catch_up_within",
    "overlap",
    "jitter",
)


class Declaration(NamedTuple):
    """A task, and which execution of its module has declared it."""

    task: Any
    execution: object


_declared: dict[str, Declaration] = {}


def registered(task_path: str) -> Any:
    """Return the task that was declared with this path in this process; None if there is none.

    Nothing is imported; see ``lookup.known_task``.
    """
    known = _declared.get(task_path)
    return None if known is None else known.task


def declared_tasks() -> list[Any]:
    """Return every task that was declared in this process so far."""
    return list({id(known.task): known.task for known in _declared.values()}.values())


def register(task: Any) -> None:
    """Note a task under its names; the first declaration of a function counts.

    Raises ``InvalidTask`` if the path belongs to another function, or the function is declared
    with other options: a worker has only one of the two. A module that is executed once more
    (``importlib.reload``, a doctest) replaces its tasks, and so does a wrapper that is put around
    a function later, as monitors do. A declaration that no module holds is replaced as well.
    """
    new = Declaration(task, _execution_of(task))
    replaced = [path for path in names_of(task) if _may_declare(path, new)]
    for path in replaced:
        _declared[path] = new


def _may_declare(path: str, new: Declaration) -> bool:
    """Return whether a declaration is the one of a name from now on; False: there is the same.

    Raises ``InvalidTask`` if the name belongs to another one.
    """
    known, task = _declared.get(path), new.task
    if known is None:
        return True
    if import_path(known.task) != import_path(task):
        if _is_held(known.task):
            raise for_both(InvalidTask(_clash(path, known.task, task)))
        return True
    same_function = known.task.func is task.func
    differing = _differing(known.task, task)
    if same_function and not differing:  # as a variant made by using()
        return False
    monitored = not same_function and _is_wrapped_later(known, task)
    if known.execution is new.execution and not monitored and _is_held(known.task):
        raise for_both(InvalidTask(_refusal(known.task, task, differing)))
    return True


def option(task: Any, name: str, missing: Any = None) -> Any:
    """Return an option of a task; ``missing`` for one of another class, whatever it has."""
    ours = getattr(type(task), "has_our_options", False)
    return getattr(task, name, missing) if ours else missing


def _execution_of(task: Any) -> object:
    """Return what is another object each time that a module is executed: its spec.

    Beside the imported module, its text may be executed in other globals (``exec_module``, a
    doctest). Copied globals have the same spec, so these are known by themselves.
    """
    name = task.func.__module__
    imported: dict[str, Any] = getattr(sys.modules.get(name), "__dict__", {})
    own: dict[str, Any] = getattr(unwrap(task.func), "__globals__", imported)
    is_beside = own is not imported and own.get("__name__") == name  # else made by a decorator
    return own if is_beside else imported.get("__spec__")


def _is_wrapped_later(known: Declaration, task: Any) -> bool:
    same = unwrap(known.task.func) is unwrap(task.func)
    return same and not getattr(known.execution, "_initializing", False)


def _differing(one: Any, other: Any) -> list[str]:
    return [name for name in FIXED if _fixed(one, name) != _fixed(other, name)]


def _fixed(task: Any, name: str) -> Any:
    return task.takes_context if name == "takes_context" else option(task, name)


def _is_held(task: Any) -> bool:
    """Return whether a module has a task of this function: a worker would find that one."""
    kind, func = type(task), task.func
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType):
            values = _values_in(module)
            # A big project has 100,000 names: map() passes over modules without tasks in C.
            if kind in map(type, values) and any(
                type(one) is kind and one.func is func for one in values
            ):
                return True
    return False


def _values_in(module: ModuleType) -> list[Any]:
    """Return what a module has, without what it computes when it is asked."""
    with suppress(AttributeError):  # there are modules without a dict: those that cffi makes
        names: dict[str, Any] = object.__getattribute__(module, "__dict__")
        return list(names.values())
    return []


def _refusal(known: Any, task: Any, differing: list[str]) -> str:
    path = task.module_path
    if known.func is task.func:
        return (
            f"{path} is declared as a task twice, with different {', '.join(differing)}. A "
            "worker takes these from one declaration, for the jobs of both. Declare two "
            "functions; queue, priority, backend and max_attempts can vary from call to call, "
            "by .using()."
        )
    places = " and ".join(sorted({_place(known.func), _place(task.func)}))
    return (
        f"{path} is the path of two tasks ({places}). A worker finds a task by its path, and "
        "would run one of them for the jobs of both. Give the functions different names; a "
        "decorator that uses functools.wraps() does not."
    )


def _clash(path: str, known: Any, task: Any) -> str:
    return (
        f"{import_path(task)} is declared with the name {path!r}, and that is a name of "
        f"{import_path(known)}. A worker finds a task by its name, and would run one of them for "
        "the jobs of both. Give one another name, or take it out of its aliases."
    )


def _place(function: Any) -> str:
    code = function.__code__
    return f"line {code.co_firstlineno} of {code.co_filename.rpartition('/')[2]}"
