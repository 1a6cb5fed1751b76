"""Where an object is made that several modules import: a signal, above all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aftercommit.lint.facts import Expr

if TYPE_CHECKING:
    from aftercommit.lint.resolve import Resolver

Place = tuple[Any, ...]


class Definitions:
    """Finds the place where a name gets its value; equal places are one object."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._project = resolver.project
        self._open: set[Place] = set()

    def place(self, expr: Expr, module: int, function: int) -> Place | None:
        """Return the place of an object, None if it is not known."""
        key = (expr, module, function)
        if key in self._open:
            return None  # two modules that import a name from each other
        self._open.add(key)
        try:
            return self._find(expr, module, function)
        finally:
            self._open.discard(key)

    def _find(self, expr: Expr, module: int, function: int) -> Place | None:
        match expr:
            case ("name", name):
                return self._of_name(name, module, function)
            case ("attr", base, name):
                return self._of_attribute(base, name, module, function)
        return None

    def _of_name(self, name: str, module: int, function: int) -> Place | None:
        origin = self._project.imports(module, function).get(name)
        origin = origin or self._project.imports(module, 0).get(name)
        if origin is not None:
            return self._of_import(origin, module)
        if name in self._project.assigns(module, 0):
            return (module, name)
        return self._by_star(name, module)

    def _of_attribute(self, base: Expr, name: str, module: int, function: int) -> Place | None:
        match self._resolver.value(base, module, function):
            case ("module", source):
                return self.place(("name", name), source, 0)
            case ("class" | "instance", where, number):
                return (where, number, name)
            case ("outside", origin):
                return (f"{origin}.{name}",)
        return None

    def _of_import(self, origin: str, module: int) -> Place | None:
        place, _, name = origin.rpartition(".")
        if origin.startswith(".") and not place.strip("."):
            place = "." * (len(origin) - len(origin.lstrip(".")))
        source = self._resolver.names.imported(place, module) if place else None
        if source is not None and source[0] == "module":
            return self.place(("name", name), source[1], 0)
        return (origin,)

    def _by_star(self, name: str, module: int) -> Place | None:
        for origin in self._project.modules[module].stars:
            source = self._resolver.names.imported(origin, module)
            if source is not None and source[0] == "module" and source[1] != module:
                found = self.place(("name", name), source[1], 0)
                if found is not None:
                    return found
        return None
