"""``OPTIONS["secret_keys"]``: the keys of secret arguments, the one that encrypts first."""

import hashlib
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from typing import Any

from aftercommit.errors import ConfigurationError

LENGTH = 32  # bytes, of AES-256
SHOWN = 8  # characters of the id of a key


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A key, and the id by which rows name it."""

    key: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """The beginning of a hash of the key, which does not help to guess it."""
        return hashlib.sha256(b"aftercommit secret key" + self.key).hexdigest()[:SHOWN]


def secret_keys_in(value: Any) -> tuple[SecretKey, ...]:
    """Return the keys; raises ``ConfigurationError``, which does not show them."""
    if not isinstance(value, (list, tuple)):
        raise ConfigurationError(
            f"secret_keys: expected a list of keys, got a {type(value).__name__}."
        )
    keys = tuple(_key(number, one) for number, one in enumerate(value))
    if len(set(keys)) < len(keys):
        raise ConfigurationError("secret_keys: a key is there twice.")
    return keys


def _key(number: int, given: Any) -> SecretKey:
    if isinstance(given, SecretKey):
        return given
    try:
        key = urlsafe_b64decode(given)
    except (TypeError, ValueError):
        key = b""
    if len(key) != LENGTH:
        raise ConfigurationError(
            f"secret_keys[{number}]: expected {LENGTH} bytes in URL-safe base64, as "
            "'manage.py aftercommit secrets new-key' prints them. What is there is not shown."
        )
    return SecretKey(key)
