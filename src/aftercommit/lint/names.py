"""What a name means in a function, in a module, and where it was imported from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Expr, Function
from aftercommit.lint.values import Value

if TYPE_CHECKING:
    from aftercommit.lint.resolve import Resolver

OF_THE_CLASS = {"__init_subclass__", "__new__"}


class Names:
    """Looks names up, from the innermost function outwards."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._project = resolver.project

    def lookup(self, name: str, module: int, function: int) -> Value | None:
        """Return what a name means in a function."""
        while function > 0:
            known, found = self._local(name, module, function)
            if known:
                return found
            function = self._project.function(module, function).parent
        return self.member(module, name)

    def member(self, module: int, name: str) -> Value | None:
        """Return what a name means at the top of a module."""
        return self._resolver.once(("member", module, name), self._member, module, name)

    def imported(self, origin: str, module: int) -> Value | None:
        """Return what an imported name means: ``a.b.c``, or ``..b.c`` from a module."""
        if origin.startswith("."):
            found, rest = self._project.relative(origin, module)
            return None if found is None else self._resolver.down(("module", found), rest)
        parts = origin.split(".")
        for length in range(len(parts), 0, -1):
            found = self._project.find_module(".".join(parts[:length]), module)
            if found is not None and not (found == module and length < len(parts)):
                return self._resolver.down(("module", found), parts[length:])
        return ("outside", origin)

    def _local(self, name: str, module: int, function: int) -> tuple[bool, Value | None]:
        """Return whether a function knows a name, and what it is there."""
        facts = self._project.function(module, function)
        params = [one for one, _ in facts.params]
        known = name in params
        if known:
            place = params.index(name)
            found = self._parameter(facts, place, facts.params[place][1], module, function)
            if found is not None:
                return True, found
        set_to = self._project.assigns(module, function).get(name, ())
        found = self._resolver.first(tuple(set_to), module, function)
        if found is not None:
            return True, found
        origin = self._project.imports(module, function).get(name)
        if origin is not None:
            return True, self.imported(origin, module)
        return known or bool(set_to), None

    def _parameter(
        self, facts: Function, place: int, written: Expr, module: int, function: int
    ) -> Value | None:
        if written:
            return self._resolver.annotations.held(written, module, function)
        decorators = {dotted(one) for one in facts.decorators}
        if place or facts.owner < 0 or "staticmethod" in decorators:
            return None
        of_class = "classmethod" in decorators or facts.name in OF_THE_CLASS
        return ("class" if of_class else "instance", module, facts.owner)

    def _member(self, module: int, name: str) -> Value | None:
        own = self._project.names(module).get(name)
        if own is not None:
            return (own[0], module, own[1])
        origin = self._project.imports(module, 0).get(name)
        if origin is not None:
            return self.imported(origin, module)
        set_to = self._project.assigns(module, 0).get(name, ())
        found = self._resolver.first(tuple(set_to), module, 0)
        if found is not None:
            return found
        sub = self._project.submodule(module, name)
        return ("module", sub) if sub is not None else self._starred(module, name)

    def _starred(self, module: int, name: str) -> Value | None:
        for origin in self._project.modules[module].stars:
            source = self.imported(origin, module)
            if source is not None and source[0] == "module" and source[1] != module:
                found = self.member(source[1], name)
                if found is not None:
                    return found
        return None
