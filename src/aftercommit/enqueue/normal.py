"""Turns what Django's own backends accept as an argument into what JSON has."""

import copy
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.utils.functional import LazyObject

IN_JSON = (str, int, float, list, tuple, dict, type(None))  # bool is an int
BEHIND_A_PROXY: tuple[Any, ...] = (bool, int, float, str, bytes)


class Normalizer:
    """Converts values as ``django.utils.json.normalize_json`` does, and lazy ones to their value.

    A mapping becomes a dict, a sequence a list, bytes the text that they are in UTF-8, and a key
    text, as ``json.dumps`` writes it. What cannot be converted stays as it is, for the check that
    follows, and so does what is beyond ``deepest`` levels or ``most`` values.
    """

    def __init__(self, *, most: int, deepest: int) -> None:
        self._left = most
        self._deepest = deepest

    def of(self, value: Any, depth: int = 0) -> Any:
        """Return the converted value."""
        self._left -= 1
        value = _resolved(value)
        if isinstance(value, str) or depth > self._deepest:
            return value
        match value:
            case Mapping():
                return self._mapping(value.items(), depth + 1)
            case bytes():
                return _text(value)
            case Sequence():
                return self._sequence(value, depth + 1)
        return value

    def _mapping(self, items: Iterable[tuple[Any, Any]], depth: int) -> dict[Any, Any]:
        made: dict[Any, Any] = {}
        for key, value in items:
            text = _key(_resolved(key))
            made[_Twice(key) if text in made else text] = self.of(value, depth)
            if self._left < 0:
                break
        return made

    def _sequence(self, values: Iterable[Any], depth: int) -> list[Any]:
        made = []
        for value in values:
            made.append(self.of(value, depth))
            if self._left < 0:
                break
        return made


class _Twice:
    """The second of two keys that would be one text; the check refuses it."""

    def __init__(self, key: object) -> None:
        self._key = key

    def __repr__(self) -> str:
        return f"{self._key!r}, beside another of the same text,"


def is_in_json(value: object) -> bool:
    """Return whether a value is of a type of JSON: a proxy only says of itself that it is."""
    return issubclass(type(value), IN_JSON)


def _resolved(value: Any) -> Any:
    """Return what a lazy object or another proxy stands for, if JSON could have it."""
    if is_in_json(value):
        return value
    if issubclass(type(value), LazyObject):
        _ = value.__class__  # evaluates it; then its copy is one of the value
        return copy.copy(value)
    for real in BEHIND_A_PROXY:
        if isinstance(value, real) and not issubclass(type(value), real):
            return real(value)
    return value


def _text(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


def _key(key: Any) -> Any:
    match key:
        case bytes():
            return _text(key)
        case None | True | False:
            return {None: "null", True: "true", False: "false"}[key]
        case float() if math.isfinite(key):
            return float.__repr__(key)
        case int():
            return int.__repr__(key)
    return key
