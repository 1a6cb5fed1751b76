"""Which functions a row may name: the project's own, or those of ``allowed_functions``.

Whoever can write to the table of jobs can name any path. So nothing is imported before its
path is covered, and nothing is called that was only imported into an allowed module.
"""

import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from inspect import iscoroutinefunction, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from django.apps import apps

from aftercommit._compat import is_task
from aftercommit.errors import FunctionNotAllowed, NotAFunction
from aftercommit.options.conf import BackendOptions

OURSELVES = __name__.partition(".")[0]
A_TASK = "it is a task: call its enqueue()"
INSTALLED = ("site-packages", "dist-packages")
SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")


def function_at(path: str, options: BackendOptions) -> Callable[..., Any]:
    """Return the function at a path, if the allow-list covers it.

    Raises ``FunctionNotAllowed``, without an import if the path itself is not covered, and
    ``NotAFunction`` if there is no function at the path.
    """
    if not isinstance(path, str):
        raise NotAFunction(path=repr(path), problem="a dotted path is a text")
    allowed = options.allowed_functions
    covered = tuple(_own_apps()) if allowed is None else allowed
    if not _covers(covered, path):
        raise FunctionNotAllowed(path=path, allowed=covered)
    module_name, _, name = path.rpartition(".")
    module = _imported(module_name, path)
    if allowed is None and not _lies_in(module, _own_apps().values()):
        raise FunctionNotAllowed(path=path, allowed=covered)
    # Not getattr: a module may have a __getattr__ that imports what it is asked for.
    function = vars(module).get(name)
    if path in covered:
        function = getattr(module, name, None)
    if not isfunction(function):
        problem = A_TASK if is_task(function) else "the module has no function of that name"
        raise NotAFunction(path=path, problem=problem)
    if iscoroutinefunction(function):
        raise NotAFunction(path=path, problem="it is async: declare it with @task")
    defined = f"{function.__module__}.{function.__qualname__}"
    # An allowed module may import os.system; that does not make it allowed.
    if path not in covered and not _covers(covered, defined):
        raise FunctionNotAllowed(path=defined, allowed=covered)
    return function


def _covers(allowed: Iterable[str], path: str) -> bool:
    """Return whether a path is listed, or has only public names below one that is."""
    return path in allowed or any(
        path.startswith(f"{one}.") and _is_public(path.removeprefix(f"{one}.")) for one in allowed
    )


def _is_public(path: str) -> bool:
    return not any(part.startswith("_") for part in path.split("."))


def _imported(name: str, path: str) -> ModuleType:
    try:
        return sys.modules.get(name) or import_module(name)
    except (ImportError, ValueError) as error:
        raise NotAFunction(
            path=path, problem=f"its module cannot be imported ({error})"
        ) from error


def _own_apps() -> Mapping[str, Path]:
    """Return the names and folders of the project's own apps."""
    return _own_among(tuple((one.name, one.path) for one in apps.get_app_configs()))


@lru_cache(maxsize=8)  # INSTALLED_APPS of one process; tests change them
def _own_among(found: tuple[tuple[str, str], ...]) -> Mapping[str, Path]:
    folders = {name: Path(path).resolve() for name, path in found}
    return {name: path for name, path in folders.items() if not _is_installed(name, path)}


def _is_installed(name: str, folder: Path) -> bool:
    """Return whether an app is part of an installed package, or of this one."""
    root, *inner = name.split(".")
    around = (folder, *folder.parents)
    package = around[min(len(inner), len(around) - 1)]  # the folder of the root package
    return (
        root == OURSELVES
        or not set(INSTALLED).isdisjoint(package.parts)
        or any(package.is_relative_to(Path(sysconfig.get_path(one))) for one in SCHEMES)
        or _is_recorded(package)
    )


def _is_recorded(package: Path) -> bool:
    """Return whether pip has put a package into a folder of the project (``--target``)."""
    return any(
        line.startswith(f"{package.name}/")
        for record in package.parent.glob("*.dist-info/RECORD")
        for line in record.read_text(errors="replace").splitlines()
    )


def _lies_in(module: ModuleType, folders: Iterable[Path]) -> bool:
    """Return whether a module's file is in one of the folders: a package may have others."""
    file = getattr(module, "__file__", None)
    where = None if file is None else Path(file).resolve()
    return where is not None and any(where.is_relative_to(one) for one in folders)
