"""Puts functions in the place of functions of libraries, and takes them away again.

A library that is not imported yet is patched when it is imported: the guard must not make a
process import Celery because it is installed.
"""

import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

Wrap = Callable[[Any], Any]

_made: dict[tuple[Any, str], tuple[Any, Any]] = {}  # (owner, name): (original, ours)


def patch(owner: Any, name: str, wrap: Wrap, *, inherited: bool = False) -> None:
    """Put ``wrap(original)`` in the place of an attribute of a class or module; once.

    ``inherited``: also where a class has it from another one, which cannot be patched itself.
    """
    original = getattr(owner, name, None) if inherited else vars(owner).get(name)
    if original is None or (owner, name) in _made:
        return
    ours = wrap(original)
    _made[owner, name] = original, ours
    setattr(owner, name, ours)


def patch_instances(base: type, name: str, wrap: Wrap) -> None:
    """Patch a method in each subclass of ``base`` that overrides it, when one is instantiated.

    Subclasses that are there already are patched now.
    """

    def with_init(original: Any) -> Any:
        @wraps(original)
        def __init__(self: Any, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            _patch_mro(type(self), base, name, wrap)

        return __init__

    patch(base, "__init__", with_init)
    for kind in subclasses(base):
        _patch_mro(kind, base, name, wrap)


def _patch_mro(kind: type, base: type, name: str, wrap: Wrap) -> None:
    for one in kind.__mro__:
        if one is base:
            return
        patch(one, name, wrap)


def subclasses(base: type) -> list[type]:
    """Return all classes that extend this one, through others, too."""
    found: list[type] = []
    kind: type
    for kind in base.__subclasses__():
        found += [kind, *subclasses(kind)]
    return found


def restore() -> None:
    """Take the patches away.

    What somebody else has wrapped since then stays, and does nothing, since nobody is
    interested any more.
    """
    for (owner, name), (original, ours) in list(_made.items()):
        if vars(owner).get(name) is ours:
            setattr(owner, name, original)
            del _made[owner, name]


class OnImport(MetaPathFinder):
    """Calls a function with a module, now or when it is imported."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Callable[[ModuleType], None]]] = {}

    def when(self, name: str, then: Callable[[ModuleType], None]) -> None:
        """Call ``then`` with the module of this name, once it is there."""
        module = sys.modules.get(name)
        if module is not None and not _is_loading(module):
            then(module)
            return
        self._waiting.setdefault(name, []).append(then)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def forget(self) -> None:
        """Wait for no module any more."""
        self._waiting.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module as Python does, and come back when it has been loaded."""
        then = self._waiting.pop(fullname, None)
        if then is None:
            return None
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Notifying(spec.loader, then)
        return spec


class _Notifying(Loader):
    def __init__(self, loader: Loader, then: list[Callable[[ModuleType], None]]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        module.__loader__ = self._loader
        self._loader.exec_module(module)
        for one in self._then:
            one(module)


def _is_loading(module: ModuleType) -> bool:
    return bool(getattr(module.__spec__, "_initializing", False))
