"""``Secret``: an argument that is encrypted in the table of jobs, and shown nowhere."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from inspect import signature
from types import FunctionType
from typing import Any, Generic, NoReturn, TypeVar, get_args, get_origin

Value = TypeVar("Value")
SHOWN = "Secret(***)"
NAME = re.compile(r"[^\W\d][\w.]*")
MOST_REMEMBERED = 4096  # functions of tasks


class Secret(Generic[Value]):
    """A value of JSON that nobody is to read in the database, a log or on a page.

    As an argument of a task it is encrypted in the row of the job, and the function gets a
    ``Secret`` again; ``reveal()`` returns the value. ``str()`` and ``repr()`` do not show it, and
    it is not pickled.
    """

    __slots__ = ("_value",)

    def __init__(self, value: Value) -> None:
        self._value = value

    def reveal(self) -> Value:
        """Return the value."""
        return self._value

    def __repr__(self) -> str:
        return SHOWN

    def __eq__(self, other: object) -> bool:
        return self._value == other._value if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> "Secret[Value]":
        return self

    def __deepcopy__(self, _memo: object) -> "Secret[Value]":
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("A Secret is not pickled: that would write its value down.")


def is_secret(value: object) -> bool:
    """Return whether a value is a ``Secret``, whatever it says of itself."""
    return issubclass(type(value), Secret)


# ---- parameters that are declared as secret --------------------------------------------


@lru_cache(maxsize=MOST_REMEMBERED)
def secret_parameters(function: Any) -> frozenset[str]:
    """Return the parameters of a function whose annotations have ``Secret`` in them."""
    if type(function) is not FunctionType:
        return frozenset()
    found = _annotations(function).items()
    return frozenset(
        name for name, one in found if name != "return" and _is_secret(one, function)
    )


def check_secrets(function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse a plain value for a parameter that is declared as ``Secret``, by ``TypeError``."""
    names = secret_parameters(function)
    bound = signature(function).bind(*args, **kwargs).arguments if names else {}
    for name in names & bound.keys():
        value = bound[name]
        if value is not None and not _has_secrets_only(value):
            raise TypeError(
                f"{function.__qualname__}() takes a Secret for {name!r}: pass Secret(value)."
            )


def wrapped(
    function: Any, args: list[Any], kwargs: dict[str, Any], *, takes_context: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Return a call in which each argument that is declared as ``Secret`` is one.

    It may have been enqueued before the parameter was declared so.
    """
    secret = secret_parameters(function)
    names = list(signature(function).parameters)[takes_context:]
    places = dict(enumerate(names[: len(args)]))
    new_args = [_as_secret(one) if places.get(n) in secret else one for n, one in enumerate(args)]
    return new_args, {
        name: _as_secret(one) if name in secret else one for name, one in kwargs.items()
    }


def _as_secret(value: Any) -> Any:
    return value if value is None or _has_secrets_only(value) else Secret(value)


def _has_secrets_only(value: Any) -> bool:
    """Return whether it is one, or a collection of such: ``list[Secret]``, ``*cards: Secret``."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return all(map(is_secret, value))
    return is_secret(value)


def _annotations(function: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = function.__annotations__
    except NameError:  # from Python 3.14 on: a name that exists for type checkers only
        library: Any = import_module("annotationlib")
        found = library.get_annotations(function, format=library.Format.STRING)
    return found


def _is_secret(annotation: Any, function: Any) -> bool:
    if isinstance(annotation, str):
        return any(_named(one, function) is Secret for one in NAME.findall(annotation))
    if annotation is Secret or get_origin(annotation) is Secret:
        return True
    return any(_is_secret(one, function) for one in get_args(annotation))


def _named(name: str, function: Any) -> Any:
    first, *others = name.split(".")
    found = function.__globals__.get(first)
    for one in others:
        found = getattr(found, one, None)
    return found
