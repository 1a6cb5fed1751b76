"""Unique jobs: the options of a task, the key of a call, what is done about a holder of it."""

import difflib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from inspect import Parameter, Signature, signature
from typing import TYPE_CHECKING, Any, NamedTuple

from aftercommit._compat import BaseTask, InvalidTask, for_both
from aftercommit.enqueue.payload import dump_arguments, load_arguments
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.signature import function_of_calls
from aftercommit.errors import ConfigurationError, PayloadError
from aftercommit.options.checked import check_spans, names_in, shown
from aftercommit.options.conf import BackendOptions
from aftercommit.options.unique import RAISE, REPLACE, RETURN, check_on_conflict
from aftercommit.values import NewJob, OnConflict

if TYPE_CHECKING:
    from aftercommit.store.base import Store
    from aftercommit.store.unique import Placed

UNTIL_STARTED, UNTIL_FINISHED = UNTIL = ("until_started", "until_finished")
LONGEST_KEY = 255  # characters, as in the column
NEED_UNIQUE = ("unique_by", "on_conflict", "debounce_max")
LARGEST_DEFAULT = 1024 * 1024  # bytes
EMPTY: dict[Any, Any] = {Parameter.VAR_POSITIONAL: [], Parameter.VAR_KEYWORD: {}}


def insert_unique(
    store: "Store", task: BaseTask, jobs: list[NewJob], options: BackendOptions
) -> "list[Placed]":
    """Insert jobs of a unique task, or meet the jobs that hold their keys."""
    check_moment(task)
    return store.insert_unique(jobs, rule_of(task, options))


def check_moment(task: BaseTask) -> None:
    """Refuse a call with ``run_after`` of a task whose jobs are debounced."""
    if option(task, "debounce") is not None and task.run_after is not None:
        raise for_both(
            InvalidTask(
                f"{task.module_path}: run_after cannot be given for a call of a task with "
                "debounce, which decides when the job runs."
            )
        )


def rule_of(task: BaseTask, options: BackendOptions) -> OnConflict:
    """Return what is done when the key of a call has a holder.

    A debounced task runs with the arguments of its last call, if it does not say otherwise.
    """
    debounce: timedelta | None = option(task, "debounce")
    usual = options.on_conflict if debounce is None else REPLACE
    action = option(task, "on_conflict") or usual
    return OnConflict(
        refuses=action == RAISE,
        replaces=action == REPLACE,
        debounce=debounce,
        debounce_max=option(task, "debounce_max"),
    )


# ---- the key of a call -----------------------------------------------------------------


def keyed(job: NewJob, task: BaseTask) -> NewJob:
    """Return the job of a unique task with its key; raises as ``key_of`` does."""
    return replace(
        job,
        unique_key=key_of(task, job.payload),
        unique_until_started=option(task, "unique") == UNTIL_STARTED,
    )


def key_of(task: BaseTask, payload: str) -> str:
    """Return the unique key of a call of ``task``, whose arguments are in ``payload``.

    It begins with the task's path, so that two tasks never share a key. Of the arguments it has
    a hash only: a key is shown where arguments are not.

    Raises ``TypeError`` if the function does not take the arguments.
    """
    given = option(task, "unique_key")
    if given is None:
        chosen = json.dumps(_chosen(task, payload), sort_keys=True)
        key = f"{task.module_path}({hashlib.sha256(chosen.encode()).hexdigest()})"
    else:
        key = f"{task.module_path}:{given}"
    if len(key) > LONGEST_KEY:
        digest = hashlib.sha256(key.encode()).hexdigest()
        key = f"{key[: LONGEST_KEY - len(digest) - 1]}#{digest}"
    return key


def _chosen(task: BaseTask, payload: str) -> dict[str, Any]:
    """Return the arguments that make a call what it is, by the names of the parameters.

    As they come back from JSON: a list and a tuple are one value here, as for the function.
    """
    call, defaults, extra = _parameters(function_of_calls(task), task.takes_context)
    args, kwargs = load_arguments(payload)
    try:
        bound = call.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise TypeError(f"{task.func.__name__}() {error}") from None
    values = {**defaults, **bound}
    chosen = option(task, "unique_by")
    if chosen is None:
        return values
    others = values.get(extra, {}) if extra else {}
    return {
        name: values[name] if name in values else others[name]
        for name in chosen
        if name in values or name in others
    }


class _Parameters(NamedTuple):
    """What a task takes from its callers."""

    call: Signature  # without the context
    defaults: dict[str, Any]  # as they come back from JSON
    extra: str | None  # the name of **parameters


@lru_cache(maxsize=1000)
def _parameters(function: Callable[..., Any], takes_context: bool) -> _Parameters:
    found = list(signature(function).parameters.values())
    if takes_context and found and found[0].kind is not Parameter.VAR_POSITIONAL:
        found = found[1:]
    defaults: dict[str, Any] = {}
    for one in found:
        if one.kind in EMPTY:
            defaults[one.name] = EMPTY[one.kind]
        elif one.default is not Parameter.empty:
            defaults |= _as_json(one.name, one.default)
    extra = next((one.name for one in found if one.kind is Parameter.VAR_KEYWORD), None)
    return _Parameters(Signature(found), defaults, extra)


def _as_json(name: str, default: Any) -> dict[str, Any]:
    """Return a default as a call would have it; nothing if no call could pass it."""
    try:
        text = dump_arguments((), {name: default}, task_path="", limit=LARGEST_DEFAULT)
    except PayloadError:
        return {}
    return load_arguments(text)[1]


# ---- the options of a task -------------------------------------------------------------


def check_unique(task: Any) -> None:
    """Check the options of a task about uniqueness, and set those that follow from others.

    Raises ``ConfigurationError`` for a value that is not possible.
    """
    if task.debounce is not None:
        _imply(task, UNTIL_STARTED)
    if task.unique_key is not None:
        _check_key(task.unique_key)
        _imply(task, UNTIL_FINISHED)
    if task.unique is None:
        for name in NEED_UNIQUE:
            if getattr(task, name) is not None:
                raise ConfigurationError(
                    f"{name} says how a task is unique, and this one is not: add "
                    f"unique={UNTIL_FINISHED!r} to its declaration, or leave {name} out."
                )
        return
    if task.unique not in UNTIL:
        raise ConfigurationError(
            f"unique: expected 'until_started' or 'until_finished', got {shown(task.unique)}."
        )
    object.__setattr__(task, "unique_by", names_in("unique_by", task.unique_by))
    _check_names(task)
    if task.on_conflict is not None:
        check_on_conflict(task.on_conflict)
    _check_debounce(task)


def _imply(task: Any, unique: str) -> None:
    if task.unique is None:
        object.__setattr__(task, "unique", unique)


def _check_key(key: object) -> None:
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise ConfigurationError(
            f"unique_key: expected a text of 1 to {LONGEST_KEY} printable characters, got "
            f"{shown(key)}."
        )


def _check_names(task: Any) -> None:
    call, _defaults, extra = _parameters(function_of_calls(task), task.takes_context)
    if extra is not None:  # any name may be passed
        return
    for name in task.unique_by or ():
        if name not in call.parameters:
            near = difflib.get_close_matches(name, call.parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {list(call.parameters)}."
            raise ConfigurationError(f"unique_by: the function has no argument {name!r}; {hint}")


def _check_debounce(task: Any) -> None:
    span, most = task.debounce, task.debounce_max
    for name in ("debounce", "debounce_max"):
        if getattr(task, name) is not None:
            check_spans(**{name: getattr(task, name)})
    if span is None:
        if most is not None:
            raise ConfigurationError(
                "debounce_max is the longest delay by debounce, which is not set: add debounce, "
                "or leave debounce_max out."
            )
        return
    if most is not None and most < span:
        raise ConfigurationError(
            f"debounce_max ({most}) must not be shorter than debounce ({span}), or already the "
            "first call would have to run earlier than debounce says."
        )
    if task.on_conflict == RAISE:
        raise ConfigurationError(
            "debounce postpones the job that is there with each call, and on_conflict='raise' "
            f"refuses each call: leave one out, or use on_conflict={RETURN!r} to keep the "
            "arguments of the first call."
        )
