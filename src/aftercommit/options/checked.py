"""What all options share: values built from a mapping and checked, unknown names refused."""

import difflib
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import timedelta
from typing import Any, Self

from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import LONGEST_WAIT
from aftercommit.wording import spoken

ExceptionTypes = tuple[type[BaseException] | str, ...]  # classes, or their dotted paths
ExceptionOption = type[BaseException] | str | Collection[type[BaseException] | str]
LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}  # of logging
NO_LEVEL = "OFF"
LARGEST_COUNT = 2**31 - 1  # what the columns hold
LONGEST_SPAN = timedelta(days=7)  # of what a worker waits for; the system's waits end at 24 days


class CheckedOptions:
    """What all option values share: built from a mapping, unknown names refused."""

    __slots__ = ()

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], *, where: str) -> Self:
        """Build the value from ``given``, which was found at ``where``.

        Raises ``ConfigurationError`` for a name that is no option, with the nearest
        one as a suggestion, and for a value that makes no sense.
        """
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{where}: expected a dict, got {shown(given)}.")
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        for name in given:
            if name not in known:
                raise _unknown_option(name, known, where=where)
        try:
            return cls(**given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error


def check_counts(most: int = LARGEST_COUNT, /, **values: object) -> None:
    """Refuse what is not a whole number from 1 to ``most``, by default what a column holds."""
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 1 <= value <= most:  # type: ignore[operator]
            raise ConfigurationError(
                f"{name}: expected a whole number from 1 to {most:,}, got {shown(value)}."
            )


def check_flags(**values: object) -> None:
    """Refuse what is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name}: expected True or False, got {shown(value)}.")


def check_level(name: str, value: object) -> None:
    """Refuse what is neither None nor a level of ``logging``, or OFF."""
    if value is not None and value not in (*LEVELS, NO_LEVEL):
        raise ConfigurationError(
            f"{name}: expected one of {', '.join(LEVELS)}, {NO_LEVEL} or None, "
            f"got {shown(value)}."
        )


def check_not_negative(**values: object) -> None:
    """Refuse what is not a span of time that a worker can wait, or zero."""
    for name, value in values.items():
        if not isinstance(value, timedelta) or not timedelta(0) <= value <= LONGEST_SPAN:
            raise ConfigurationError(
                f"{name}: expected a timedelta, not negative, and at most "
                f"{LONGEST_SPAN.days} days, got {shown(value)}."
            )


def check_spans(longest: timedelta = LONGEST_WAIT, /, **values: object) -> None:
    """Refuse what is not a span of time above zero, or is longer than ``longest``."""
    for name, value in values.items():
        if not isinstance(value, timedelta) or not timedelta(0) < value <= longest:
            raise ConfigurationError(
                f"{name}: expected a timedelta above zero, and at most {longest.days:,} days, "
                f"got {shown(value)}."
            )


def exception_types(name: str, value: Any) -> ExceptionTypes | None:
    """Return exception classes, or their dotted paths, as a tuple; one may stand alone.

    Raises ``ConfigurationError`` for anything that cannot be one. Whether a path leads to
    an exception class is seen when the task is run, and by a system check.
    """
    if value is None:
        return None
    given = (value,) if isinstance(value, (type, str)) else value
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise _not_exceptions(name, value)
    for one in given:
        if not _is_exception(one) and not (isinstance(one, str) and one.strip()):
            raise _not_exceptions(name, one)
    return tuple(given)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _not_exceptions(name: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: expected an exception class, its dotted path, or a tuple of them, "
        f"got {shown(value)}."
    )


def _unknown_option(name: object, known: set[str], *, where: str) -> ConfigurationError:
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
    return ConfigurationError(f"{where}: unknown option {shown(name)}.{hint}")


def names_in(name: str, value: Any) -> tuple[str, ...] | None:
    """Accept a list or a tuple; a bare string would be read letter by letter."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"{name}: expected a list or a tuple, got {shown(value)}.")
    check_texts(**{f"{name}[{index}]": one for index, one in enumerate(value)})
    return tuple(value)


def check_texts(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"{name}: expected a name, got {shown(value)}.")


def shown(value: object) -> str:
    """Return a value for a sentence; of one with parts the type, as a part may be secret."""
    if isinstance(value, timedelta):
        return spoken(value)
    if value is None or isinstance(value, (str, bytes, int, float, type)):
        return reprlib.repr(value)
    return f"a {type(value).__name__}"
