"""AES-256-GCM of ``cryptography``; imported only by who has a secret."""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE = 12  # bytes


class Changed(Exception):
    """What was read is not what was written, or stands in another place."""


def encrypt(key: bytes, plain: bytes, *, place: bytes) -> str:
    """Return an encrypted text, which can be decrypted for the same place only."""
    nonce = os.urandom(NONCE)
    sealed = AESGCM(key).encrypt(nonce, plain, place)
    return urlsafe_b64encode(nonce + sealed).decode()


def decrypt(key: bytes, text: str, *, place: bytes) -> bytes:
    """Return what was encrypted; raises ``Changed``."""
    try:
        found = urlsafe_b64decode(text)
        return AESGCM(key).decrypt(found[:NONCE], found[NONCE:], place)
    except (InvalidTag, ValueError) as error:
        raise Changed from error
