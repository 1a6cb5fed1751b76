"""Imports the modules with tasks, and names the one that cannot be imported."""

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType

from django.apps import apps
from django.utils.module_loading import module_has_submodule

from aftercommit.enqueue.lookup import skipped_modules
from aftercommit.errors import ConfigurationError

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
