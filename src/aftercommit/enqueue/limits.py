"""Concurrency limits: the options of a task, the key of a call, what the limit is now."""

import difflib
import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter, Signature, signature
from typing import Any

from aftercommit._compat import BaseTask, InvalidTask, for_both
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.payload import dump_arguments, load_arguments
from aftercommit.enqueue.registry import declared_tasks, option, registered
from aftercommit.errors import ConfigurationError, PayloadError
from aftercommit.options.checked import check_counts, check_flags, names_in
from aftercommit.values import UNLIMITED, Limit

BY_CALL = ("priority", "queue_name", "backend")  # what .using() may change
LARGEST_DEFAULT = 1024 * 1024  # bytes


def limit_of(task_path: str) -> Limit | None:
    """Return the limit that this process knows for a task's path; None: not even the task."""
    task = known_task(task_path)
    if task is None:
        return None
    slots = option(task, "limit")
    return UNLIMITED if slots is None else Limit(slots, bool(option(task, "ordered")))


def has_limits() -> bool:
    """Return whether a task that was declared in this process has a limit."""
    return any(option(task, "limit") is not None for task in declared_tasks())


def limit_key_of(task: BaseTask, payload: str) -> str | None:
    """Return the key under which a call of ``task`` is limited; None: it is not.

    A hash: the arguments are not to be read where keys are. Raises ``TypeError`` if the function
    does not take the arguments of ``payload``, ``InvalidTask`` for a call that would leave the
    order of its key.
    """
    if option(task, "limit") is None:
        return None
    if option(task, "ordered"):
        _check_in_line(task)
    names = option(task, "limit_by") or ()
    chosen = _arguments(task, payload) if names else {}
    values = {name: chosen.get(name) for name in names}
    text = json.dumps([task.module_path, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _check_in_line(task: BaseTask) -> None:
    declared = registered(task.module_path) or task
    changed = [name for name in BY_CALL if getattr(task, name) != getattr(declared, name)]
    if task.run_after is not None:
        changed.append("run_after")
    if changed:
        raise for_both(
            InvalidTask(
                f"{task.module_path}: {changed[0]} cannot be given for a call of a task with "
                "ordered=True, whose jobs run in the order of the calls. Nothing was enqueued."
            )
        )


def _arguments(task: BaseTask, payload: str) -> dict[str, Any]:
    """Return the arguments of a call by the names of the parameters, as JSON has kept them."""
    args, kwargs = load_arguments(payload)
    call = _parameters(task.func, task.takes_context)
    try:
        bound = call.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{task.func.__name__}() {error}") from None
    bound.apply_defaults()
    found = dict(bound.arguments)
    for one in call.parameters.values():
        if one.kind is Parameter.VAR_KEYWORD:
            found |= found.pop(one.name)
    return found


@lru_cache(maxsize=1000)
def _parameters(function: Callable[..., Any], takes_context: bool) -> Signature:
    found = list(signature(function).parameters.values())
    if takes_context and found and found[0].kind is not Parameter.VAR_POSITIONAL:
        found = found[1:]
    return Signature(found)


# ---- the options of a task -------------------------------------------------------------


def check_limit(task: Any) -> None:
    """Check the options of a task about limits; raises ``ConfigurationError``."""
    if task.ordered is not None:
        check_flags(ordered=task.ordered)
    if task.limit is None:
        for name in ("limit_by", "ordered"):
            if getattr(task, name):
                raise ConfigurationError(
                    f"{name} says how a limit counts, and this task has none: add limit=1 to "
                    f"its declaration, or leave {name} out."
                )
        return
    check_counts(limit=task.limit)
    object.__setattr__(task, "limit_by", names_in("limit_by", task.limit_by))
    if task.ordered and task.limit != 1:
        raise ConfigurationError(
            f"ordered=True needs limit=1, got {task.limit}: two jobs that run at once have no "
            "order."
        )
    _check_names(task)


def _check_names(task: Any) -> None:
    parameters = _parameters(task.func, task.takes_context).parameters
    for name in task.limit_by or ():
        _check_default(name, parameters.get(name))
    kinds = {one.kind for one in parameters.values()}
    if Parameter.VAR_KEYWORD in kinds:  # any name may be passed
        return
    for name in task.limit_by or ():
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {list(parameters)}."
            raise ConfigurationError(f"limit_by: the function has no argument {name!r}; {hint}")


def _check_default(name: str, parameter: Parameter | None) -> None:
    if parameter is None or parameter.default is Parameter.empty:
        return
    try:
        dump_arguments((), {name: parameter.default}, task_path="", limit=LARGEST_DEFAULT)
    except PayloadError:
        raise ConfigurationError(
            f"limit_by: the default of {name!r} is {type(parameter.default).__name__}, which is "
            "no JSON. Jobs that leave it out could not be compared with others. Use a default "
            f"that is JSON (None, say), or leave {name!r} out of limit_by."
        ) from None
