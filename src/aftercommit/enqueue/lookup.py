"""Finds the task that a job names, also where nobody has imported its module yet.

To import a module is to execute it, and the name comes from a row. So a module is imported only
if it is in the package of an installed app, or below one of ``OPTIONS['task_packages']``: code
that belongs to the project or that it has chosen to load. Left out are Django's apps and this
one, which have no tasks of that kind, migrations and tests, and names with two leading
underscores (``__main__`` is a script). Whatever is found there counts only if it is a task whose
own path is the name.

A module that cannot be imported may be importable a minute later, when the service that it needs
answers again. So it is tried again, but not for every look at the table of jobs.
"""

import logging
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured

from aftercommit._compat import is_task, task_backends
from aftercommit.enqueue.names import LONGEST_TASK_PATH
from aftercommit.enqueue.registry import register, registered

logger = logging.getLogger("aftercommit")

WITHOUT_TASKS = ("django", "aftercommit")
MIGRATIONS = "migrations"
NEVER_IMPORTED = frozenset((MIGRATIONS, "tests"))  # packages inside of an app
MOST_REMEMBERED = 1000
RETRY_AFTER = 30.0  # seconds; the import of a module that raises may be slow

_not_found: set[tuple[str, tuple[str, ...]]] = set()
_failed: dict[str, float] = {}  # modules that raised when they were imported, and when


def known_task(path: str) -> Any:
    """Return the task of a path; its module is imported if that is allowed. None: unknown."""
    found = registered(path)
    if found is not None or path.rpartition(".")[0] in skipped_modules():
        return found
    packages = _packages()
    tried = (path, packages)
    if tried in _not_found or not _may_be_imported(path, packages):
        return None
    was_executed = _import(path)
    found = registered(path) or _task_in_module(path)
    if found is None and was_executed:
        if len(_not_found) >= MOST_REMEMBERED:
            _not_found.clear()
        _not_found.add(tried)
    return found


def _packages() -> tuple[str, ...]:
    """Return the packages below which modules may be imported."""
    names = [config.name for config in apps.get_app_configs()]
    chosen = [
        *(name for name in names if name.partition(".")[0] not in WITHOUT_TASKS),
        *(name for options in _options() for name in options.task_packages),
    ]
    return tuple(dict.fromkeys(chosen))


def skipped_modules() -> set[str]:
    """Return the modules with tasks that a backend wants to be left out."""
    return {name for options in _options() for name in options.skip_task_modules}


def _options() -> list[Any]:
    found = []
    for alias in task_backends.settings:
        with suppress(ImproperlyConfigured):  # a backend of others that cannot be loaded here
            found.append(getattr(task_backends[alias], "config", None))
    return [config for config in found if hasattr(config, "task_packages")]


def _may_be_imported(path: str, packages: Iterable[str]) -> bool:
    *modules, name = path.split(".")
    if len(path) > LONGEST_TASK_PATH or not name:
        return False
    inner = [path.removeprefix(one).split(".") for one in packages if path.startswith(f"{one}.")]
    return any(NEVER_IMPORTED.isdisjoint(one[:-1]) for one in inner) and all(
        part.isidentifier() and not part.startswith("__") for part in modules
    )


def _import(path: str) -> bool:
    """Import the module of a path; return False if it exists, and raised this time."""
    module = path.rpartition(".")[0]
    now = time.monotonic()
    if now - _failed.get(module, -RETRY_AFTER) < RETRY_AFTER:
        return False
    try:
        import_module(module)
    except ModuleNotFoundError as error:
        # Of a method, the last part is a class; its module is loaded by now.
        if error.name is not None and f"{module}.".startswith(f"{error.name}."):
            return True
        _warn(path, module, error)
    except (Exception, SystemExit) as error:
        _warn(path, module, error)
    else:
        return True
    if len(_failed) >= MOST_REMEMBERED:
        _failed.clear()
    _failed[module] = now
    return False


def _warn(path: str, module: str, error: BaseException) -> None:
    logger.warning(
        "A job names the task %r, and module %r, where it should be, cannot be imported: %s: %s",
        path,
        module,
        type(error).__name__,
        error,
    )


def _task_in_module(path: str) -> Any:
    """Return a task of another class, or one declared for another backend, and register it."""
    module = path.rpartition(".")[0]
    while module and module not in sys.modules:
        module = module.rpartition(".")[0]
    loaded = sys.modules.get(module)
    if not isinstance(loaded, ModuleType):
        return None
    for value in list(vars(loaded).values()):
        if is_task(value) and value.module_path == path:
            register(value)
            return registered(path)
    return None
