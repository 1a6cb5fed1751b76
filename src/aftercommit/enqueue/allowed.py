"""Which functions a row may name: the project's own, or those of ``allowed_functions``.

Whoever can write to the table of jobs can name any path. So nothing is imported before its
path is covered and its file is known to be the project's own, and nothing is called that was
only imported into an allowed module.
"""

import os.path
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from inspect import iscoroutinefunction, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

from aftercommit._compat import is_task
from aftercommit.enqueue.lookup import MIGRATIONS, NEVER_IMPORTED
from aftercommit.errors import FunctionNotAllowed, NotAFunction
from aftercommit.options.conf import BackendOptions

OURSELVES = __name__.partition(".")[0]
OUR_FUNCTIONS = ("aftercommit.django_async.removal.remove_old_jobs",)
A_TASK = "it is a task: call its enqueue()"
INSTALLED = ("site-packages", "dist-packages")
NOTHING_TO_EXECUTE = ""  # in place of a file: a folder without __init__.py
SCHEMES = ("stdlib", "platstdlib", "purelib", "platlib")


def function_at(path: str, options: BackendOptions) -> Callable[..., Any]:
    """Return the function at a path, if the allow-list covers it.

    Raises ``FunctionNotAllowed``, without an import if the path itself is not covered, and
    ``NotAFunction`` if there is no function at the path.
    """
    if not isinstance(path, str):
        raise NotAFunction(path=repr(path), problem="a dotted path is a text")
    if path in OUR_FUNCTIONS:
        ours: Callable[..., Any] = import_string(path)
        return ours
    own = _own_apps() if options.allowed_functions is None else None
    covered = tuple(own) if own is not None else options.allowed_functions or ()
    module_name, _, name = path.rpartition(".")
    module = _imported(module_name, path, own) if _covers(covered, path) else None
    if module is None:
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
    # An allowed module may import os.system; that does not make it allowed.
    if path not in covered and not _belongs(function, module_name, covered):
        defined = f"{function.__module__}.{function.__qualname__}"
        raise FunctionNotAllowed(path=defined, allowed=covered)
    return function


def _belongs(function: Callable[..., Any], module_name: str, covered: Iterable[str]) -> bool:
    """Return whether a function was made by a covered module, not only imported into one.

    Where the module itself has made it, the name in the path is the one that counts, and so it is
    where a decorator of the project's own has returned an inner function.
    """
    module, name = function.__module__, function.__qualname__
    if module == module_name:
        return True
    if "<locals>" in name:
        return any(f"{module}.".startswith(f"{one}.") for one in covered)
    return _covers(covered, f"{module}.{name}")


def _covers(allowed: Iterable[str], path: str) -> bool:
    """Return whether a path is listed, or has only public names below one that is."""
    return path in allowed or any(
        path.startswith(f"{one}.") and _is_public(path.removeprefix(f"{one}.")) for one in allowed
    )


def _is_public(path: str) -> bool:
    return not any(part.startswith("_") for part in path.split("."))


def _is_left_out(module: str, own: Iterable[str]) -> bool:
    """Return whether a module is below ``migrations``, or below ``tests`` and not loaded."""
    parts = [
        module.removeprefix(one).split(".") for one in own if f"{module}.".startswith(f"{one}.")
    ]
    return all(
        MIGRATIONS in inner
        or (module not in sys.modules and not NEVER_IMPORTED.isdisjoint(inner))
        for inner in parts
    )


def _imported(name: str, path: str, own: Mapping[str, Path] | None) -> ModuleType | None:
    """Return a module; None, and its code is not executed, if it is not one of ``own``."""
    try:
        if own is not None and (_is_left_out(name, own) or not _is_own(name, own)):
            return None
        return sys.modules.get(name) or import_module(name)
    except Exception as error:  # a module may raise anything
        problem = f"its module cannot be imported ({type(error).__name__}: {error})"
        raise NotAFunction(path=path, problem=problem) from error


def _is_own(name: str, own: Mapping[str, Path]) -> bool:
    """Return whether the files of a module, and of the packages around it, are the project's.

    A package may have folders elsewhere. To look for a module is to import the packages around
    it, so each of them is judged, and imported, before the next one is looked for.
    """
    parts = name.split(".")
    for one in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
        if one in sys.modules and one != name:
            continue
        file = _file_of(one)
        if file == NOTHING_TO_EXECUTE:
            continue
        if file is None or not _lies_in(Path(file), one, own.values()):
            return False
        if one != name:
            import_module(one)
    return True


def _file_of(module: str) -> str | None:
    """Return the file of a module, without importing it."""
    if module in sys.modules:
        return getattr(sys.modules[module], "__file__", None)
    spec = find_spec(module)
    if spec is None:
        raise ModuleNotFoundError(f"No module named {module!r}")
    if spec.origin is None and spec.submodule_search_locations is not None:
        return NOTHING_TO_EXECUTE
    return spec.origin if spec.has_location else None


def _own_apps() -> Mapping[str, Path]:
    """Return the names and folders of the project's own apps."""
    return _own_among(tuple((one.name, one.path) for one in apps.get_app_configs()))


@lru_cache(maxsize=8)  # INSTALLED_APPS of one process; tests change them
def _own_among(found: tuple[tuple[str, str], ...]) -> Mapping[str, Path]:
    folders = {name: Path(os.path.abspath(path)) for name, path in found}
    return {
        name: path for name, path in folders.items() if not _is_installed(name, path.resolve())
    }


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


def _lies_in(file: Path, module: str, folders: Iterable[Path]) -> bool:
    """Return whether a module's file is in one of the folders: a package may have others.

    Build systems fill the folder of an app with links to files elsewhere. Such a link is as good
    as the file, unless it leads to installed packages.
    """
    real = file.resolve()
    if any(real.is_relative_to(one.resolve()) for one in folders):
        return True
    given = Path(os.path.abspath(file))
    place = real.parent if real.name.startswith("__init__.") else real
    return any(given.is_relative_to(one) for one in folders) and not _is_installed(module, place)
