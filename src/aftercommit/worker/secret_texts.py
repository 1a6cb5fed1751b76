"""The texts of a run that nobody is to read, and their place in other texts."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

SHORTEST = 3  # characters; of less, nearly every text has some
HIDDEN = "***"


def texts_of(values: Iterable[Any]) -> tuple[str, ...]:
    """Return the texts to hide for secret values, also as they are in quotes or in an address."""
    found = {form for value in values for text in _texts(value) for form in _forms(text)}
    return tuple(sorted((one for one in found if len(one) >= SHORTEST), key=len, reverse=True))


def masked(text: str, secrets: Sequence[str]) -> str:
    """Return a text without the secrets; the longest are hidden first."""
    for one in secrets:
        text = text.replace(one, HIDDEN)
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def _forms(text: str) -> Iterator[str]:
    yield text
    yield repr(text)[1:-1]
    yield json.dumps(text)[1:-1]
    yield quote(text, errors="replace")
