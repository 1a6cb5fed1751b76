"""Ordering keys: messages that must arrive in the order in which they were sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST_KEY = 255

_key: ContextVar[str | None] = ContextVar("aftercommit_ordering_key", default=None)


@contextmanager
def ordering_key(key: str) -> Iterator[None]:
    """Publish the messages that are sent in this block in their order.

    They go through the outbox, inside a transaction or not. Each waits until the broker has
    all earlier messages with the same ``key`` (1 to 255 characters) in the same database,
    except those that have failed for good. If a relay dies, a copy of a message may arrive
    after later messages: ``@once`` makes the copy harmless.

    Raises ``ValueError`` for a key that is empty, too long, or no text.
    """
    if not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY:
        raise ValueError(
            f"ordering_key: expected a text of 1 to {LONGEST_KEY} characters, got {key!r}."
        )
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


def current_key() -> str | None:
    """Return the key of the enclosing ``ordering_key`` block, or None."""
    return _key.get()
