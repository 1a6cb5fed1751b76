"""The secret values of the project's settings, which no kept log line may show."""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed

from aftercommit.printable import without_passwords

# Names of settings, and of keys in them, whose values are secret.
SECRET = re.compile("API|AUTH|TOKEN|KEY|SECRET|PASS|SIGNATURE|CREDENTIAL", re.IGNORECASE)
SHORTEST = 8  # characters; a shorter value may stand in any line by chance
DEEPEST = 8
HIDDEN = "***"


def without_secrets(text: str) -> str:
    """Return a text without passwords of addresses and without secret values of settings."""
    for secret in _secrets():
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return without_passwords(text)


@cache
def _secrets() -> tuple[str, ...]:
    """Return the values, the longest first: one may be a part of another one."""
    found: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of settings that Django will do without one day
        for name in filter(str.isupper, dir(settings)):
            found.update(_secrets_in(getattr(settings, name, None), secret=_is_secret(name)))
    return tuple(sorted(found, key=len, reverse=True))


def _secrets_in(value: Any, *, secret: bool, depth: int = 0) -> Iterator[str]:
    if isinstance(value, str):
        if secret and len(value) >= SHORTEST and not _is_path(value):
            yield value
    elif depth > DEEPEST:
        return
    elif isinstance(value, Mapping):
        for name, part in value.items():
            yield from _secrets_in(part, secret=secret or _is_secret(name), depth=depth + 1)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            yield from _secrets_in(part, secret=secret, depth=depth + 1)


def _is_secret(name: object) -> bool:
    return isinstance(name, str) and SECRET.search(name) is not None


def _is_path(value: str) -> bool:
    """Return whether a value names a class or a model, as AUTHENTICATION_BACKENDS do."""
    first, dot, _rest = value.partition(".")
    return bool(dot) and (first in sys.modules or value == settings.AUTH_USER_MODEL)


def _forget(**_: Any) -> None:
    _secrets.cache_clear()


setting_changed.connect(_forget, dispatch_uid="aftercommit.options.secrets")
