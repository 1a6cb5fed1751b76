"""Code that may send inside a transaction, and says why."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from aftercommit.errors import ConfigurationError

# Of this thread or coroutine, not of the process: others are watched meanwhile.
_reason: ContextVar[str | None] = ContextVar("aftercommit_guard_reason", default=None)


@contextmanager
def allow_dispatch(reason: str) -> Iterator[None]:
    """Let the guard report nothing of this block, or of the function that this decorates.

    ``reason`` is for who reads the code: why it does no harm here. It must not be empty.
    """
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigurationError(
            f"allow_dispatch(): expected a reason, got {reason!r}.\n"
            "Who reads the code later cannot tell whether it is still right.\n"
            'Fix: say why, allow_dispatch("the task reads nothing of this transaction").'
        )
    token = _reason.set(reason)
    try:
        yield
    finally:
        _reason.reset(token)


def is_allowed() -> bool:
    """Return whether this runs inside ``allow_dispatch``."""
    return _reason.get() is not None
