"""Queued names that no declared task has: their jobs wait until a worker knows the task."""

from collections.abc import Iterable
from contextlib import suppress

from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.names import OURS
from aftercommit.enqueue.registry import registered
from aftercommit.errors import ConfigurationError


def undeclared(names: Iterable[str], modules: Iterable[str] = ()) -> list[str]:
    """Return those of the names that no task of this process has; it looks in every app.

    Tasks of this package are known to workers, which alone load them.
    """
    left = sorted(one for one in set(names) if not one.startswith(OURS))
    if all(registered(one) is not None for one in left):
        return []
    with suppress(ConfigurationError):  # a module of tasks that raises is said elsewhere
        discover(modules)
    return [one for one in left if known_task(one) is None]
