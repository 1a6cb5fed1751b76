"""The names of a task: under which its jobs are stored, and which it had before.

A name is looked up among the tasks that are declared. It is not a path to import, so a function
can be moved and its jobs stay where they are.
"""

import re
from collections.abc import Iterable
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.stored import versioned

LONGEST_TASK_PATH = 255  # characters, as in the column
# Parts with dots between them, as a path has: a name without a dot is that of a function.
NAME = re.compile(r"[^\W\d][\w-]*(\.[^\W\d][\w-]*)+")
OURS = "aftercommit."  # tasks of this package; rows name them


def import_path(task: Any) -> str:
    """Return the dotted path of a task's function."""
    return f"{task.func.__module__}.{task.func.__qualname__}"


def stored_name(task: Any) -> str:
    """Return the name under which calls of a task are stored now.

    That of a version other than 1 ends with it. So a worker whose code has an older version
    knows no such task, and leaves the job ready.
    """
    path: str = task.module_path
    ours = getattr(type(task), "has_our_options", False)
    return versioned(path, task.version) if ours and task.version != 1 else path


def names_of(task: Any) -> list[str]:
    """Return each name under which a row may name a task, the one that is stored first.

    The dotted path is one of them: under it jobs are stored that were enqueued before the task
    had a name of its own. Those of earlier versions are as well.
    """
    stored = task.module_path
    if not getattr(type(task), "has_our_options", False):
        return [stored]
    given = [import_path(task)] if stored == task.name else []
    names = dict.fromkeys([stored, *given, *task.aliases])
    return [versioned(name, one) for one in range(task.version, 0, -1) for name in names]


def check_names(task: Any) -> None:
    """Check ``name`` and ``aliases`` as they were given; aliases become a tuple.

    Raises ``ConfigurationError`` for one that cannot be looked up.
    """
    if task.name != task.func.__name__:
        _check("name", task.name)
    if isinstance(task.aliases, str) or not isinstance(task.aliases, Iterable):
        raise ConfigurationError(f"aliases must be a tuple of names, got {task.aliases!r}.")
    object.__setattr__(task, "aliases", tuple(task.aliases))
    for one in task.aliases:
        _check("an alias", one)


def _check(what: str, given: object) -> None:
    if not isinstance(given, str) or not NAME.fullmatch(given) or len(given) > LONGEST_TASK_PATH:
        raise ConfigurationError(
            f"{what} must be of parts with dots between them, such as 'billing.charge', and of "
            f"at most {LONGEST_TASK_PATH} characters, got {given!r}."
        )
    if given.startswith(OURS):
        raise ConfigurationError(f"{what} must not begin with {OURS!r}, got {given!r}.")
