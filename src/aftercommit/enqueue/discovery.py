"""Imports the modules with tasks, and names the one that cannot be imported."""

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from aftercommit._compat import BaseTask
from aftercommit.enqueue.lookup import known_task, skipped_modules
from aftercommit.enqueue.registry import registered
from aftercommit.errors import ConfigurationError
from aftercommit.stored import without_version

TASKS = "tasks"


def discover(modules: Iterable[str] = ()) -> None:
    """Import ``tasks`` of every installed app, and ``modules``, to register their tasks.

    Raises ``ConfigurationError`` for one that cannot be imported, unless a backend names it in
    ``OPTIONS["skip_task_modules"]``.
    """
    skipped = skipped_modules()
    for app in apps.get_app_configs():
        name = f"{app.name}.{TASKS}"
        if name not in skipped and app.module is not None:
            _import(name, app.module)
    for name in modules:
        if name not in skipped:
            _import(name)


def _import(name: str, app: ModuleType | None = None) -> None:
    try:
        import_module(name)
    except Exception as error:
        if app is not None and not module_has_submodule(app, TASKS):
            return
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"The module {name!r} cannot be imported: {type(error).__name__}: {error}.\n"
            "Its tasks would be unknown, and their jobs would wait.\n"
            "Fix: mend the module, or leave it out by OPTIONS['skip_task_modules'] of a backend "
            f"in TASKS: [{name!r}]."
        ) from error


def task_at(path: str, modules: Iterable[str] = ()) -> BaseTask | None:
    """Return the task of a path, after importing every ``tasks`` module if it is not known.

    Also for a call of a newer version than that of the code here, which may be shown, not run.
    """
    if registered(path) is None:
        discover(modules)
    found: BaseTask | None = known_task(path) or known_task(without_version(path))
    return found
