"""Queued names that no declared task has: their jobs wait until a worker knows the task."""

from collections.abc import Iterable
from contextlib import suppress

from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.names import OURS
from aftercommit.enqueue.registry import option, registered
from aftercommit.errors import ConfigurationError
from aftercommit.stored import name_and_version


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


def newer(names: Iterable[str]) -> dict[str, str]:
    """Return those of the names that are of a newer version than the code here has, explained.

    The task is known. Its jobs wait for a worker with the code that has enqueued them.
    """
    found: dict[str, str] = {}
    for one in names:
        name, version = name_and_version(one)
        task = known_task(name) if version > 1 and known_task(one) is None else None
        if task is not None:
            found[one] = (
                f"{name} version {version} (the code here has {option(task, 'version', 1)})"
            )
    return found
