"""Each name under which jobs of a task may be stored, for those who ask about a task."""

from contextlib import suppress
from typing import Any

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.names import names_of
from aftercommit.errors import ConfigurationError


def declared_task(name: str) -> Any:
    """Return the task with this name, or None; for a name of its own it looks in every app."""
    found = known_task(name)
    if found is None:
        load_tasks()
        found = known_task(name)
    return found


def stored_names(name: str) -> list[str]:
    """Return all names of the task with this name; the name alone if nothing declares it."""
    task = declared_task(name)
    return [name] if task is None else names_of(task)


def load_tasks() -> None:
    """Import the modules of tasks that a worker imports, as far as they can be imported here."""
    for backend in our_backends():
        with suppress(ConfigurationError):
            discover(backend.config.task_modules)
