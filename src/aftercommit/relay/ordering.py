"""Messages for a broker that must arrive in the order in which they were sent."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST_KEY = 255

_key: ContextVar[str | None] = ContextVar("aftercommit_ordering_key", default=None)


@contextmanager
def ordering_key(key: str) -> Iterator[None]:
    """Have the messages that are sent in this block published in their order.

    They go through the table, inside a transaction or not, and each waits until the broker
    has those that were kept before it with the same ``key`` (1 to 255 characters) in the
    same database. One that has failed for good is not waited for. A copy, after a relay has
    died, may come behind later ones: ``@once`` makes it harmless.

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
    """Return the key of the block that this code is in, or None."""
    return _key.get()
