"""Keys: jobs whose calls have equal values of some arguments belong together."""

import difflib
import hashlib
import json
from collections.abc import Callable, Collection
from functools import lru_cache
from inspect import Parameter, Signature, signature
from typing import Any

from aftercommit._compat import BaseTask
from aftercommit.enqueue.payload import dump_arguments, load_arguments
from aftercommit.enqueue.signature import function_of_calls
from aftercommit.errors import ConfigurationError, PayloadError

LARGEST_DEFAULT = 1024 * 1024  # bytes


def key_of(task: BaseTask, payload: str, names: Collection[str]) -> str:
    """Return the key of a call of ``task`` by the values of these arguments.

    A hash: the arguments are not to be read where keys are. Raises ``TypeError`` if the function
    does not take the arguments of ``payload``.
    """
    chosen = arguments_of(task, payload) if names else {}
    values = {name: chosen.get(name) for name in names}
    text = json.dumps([task.module_path, values], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def arguments_of(task: BaseTask, payload: str) -> dict[str, Any]:
    """Return the arguments of a call by the names of the parameters, as JSON has kept them."""
    args, kwargs = load_arguments(payload)
    call = _parameters(function_of_calls(task), task.takes_context)
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


def check_names_of_arguments(task: Any, option: str) -> None:
    """Refuse an option of a task that names arguments which its function does not take."""
    names = getattr(task, option) or ()
    parameters = _parameters(function_of_calls(task), task.takes_context).parameters
    for name in names:
        _check_default(option, name, parameters.get(name))
    kinds = {one.kind for one in parameters.values()}
    if Parameter.VAR_KEYWORD in kinds:  # any name may be passed
        return
    for name in names:
        if name not in parameters:
            near = difflib.get_close_matches(name, parameters, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {list(parameters)}."
            raise ConfigurationError(f"{option}: the function has no argument {name!r}; {hint}")


def _check_default(option: str, name: str, parameter: Parameter | None) -> None:
    if parameter is None or parameter.default is Parameter.empty:
        return
    try:
        dump_arguments((), {name: parameter.default}, task_path="", limit=LARGEST_DEFAULT)
    except PayloadError:
        raise ConfigurationError(
            f"{option}: the default of {name!r} is {type(parameter.default).__name__}, which is "
            "no JSON. Jobs that leave it out could not be compared with others. Use a default "
            f"that is JSON (None, say), or leave {name!r} out of {option}."
        ) from None
