"""Functions of the project that options name: middleware, and what writes headers."""

from collections.abc import Callable
from typing import Any

from django.utils.module_loading import import_string

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import shown

FunctionOption = Callable[..., Any] | str


def functions_in(name: str, value: Any) -> tuple[FunctionOption, ...]:
    """Return functions, or their dotted paths, as a tuple; one may stand alone.

    Raises ``ConfigurationError`` for what cannot be one. Whether a path leads to a function is
    seen by ``imported``, and by a system check.
    """
    given = (value,) if isinstance(value, str) or callable(value) else value
    if not isinstance(given, (list, tuple)):
        raise _no_function(name, value)
    for one in given:
        if not callable(one) and not (isinstance(one, str) and "." in one.strip(".")):
            raise _no_function(name, one)
    return tuple(given)


def imported(name: str, functions: Any) -> tuple[Callable[..., Any], ...]:
    """Return what ``functions_in`` has accepted, imported.

    Raises ``ConfigurationError`` for a path that leads to no function.
    """
    return tuple(_imported(name, one) for one in functions)


def _imported(name: str, function: FunctionOption) -> Callable[..., Any]:
    if not isinstance(function, str):
        return function
    try:
        found = import_string(function)
    except ImportError as error:
        raise ConfigurationError(
            f"{name} names {function!r}, which cannot be imported: {error}."
        ) from error
    if not callable(found):
        raise ConfigurationError(f"{name} names {function!r}, which is {shown(found)}.")
    return found  # type: ignore[no-any-return]


def _no_function(name: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: expected a list of functions, or of their dotted paths, got {shown(value)}."
    )
