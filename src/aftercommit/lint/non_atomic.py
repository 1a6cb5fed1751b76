"""Views that ATOMIC_REQUESTS leaves alone: what non_atomic_requests() decorates."""

from collections.abc import Iterator
from typing import Any

from aftercommit.lint.facts import Expr
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.values import ClassId, Value

NAME = "non_atomic_requests"


class NonAtomic:
    """Knows them by their decorators, those of their classes, and by what URLs are given."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._wrapped: set[Value] | None = None

    def is_function(self, module: int, function: int) -> bool:
        """Say whether a function, or the class of a method, is served without a transaction."""
        facts = self._resolver.project.function(module, function)
        if any(_names_it(one) for one in facts.decorators):
            return True
        if facts.owner >= 0:
            return self.is_class(module, facts.owner)
        return ("function", module, function) in self._in_urls()

    def is_class(self, module: int, number: int) -> bool:
        """Say whether a class of views is. Its nearest ``dispatch()`` is what counts."""
        if ("class", module, number) in self._in_urls():
            return True
        for above in self._resolver.classes.mro(module, number):
            if any(_is_for_dispatch(one) for one in self._decorators(above)):
                return True
            own = self._resolver.classes.methods(*above).get("dispatch")
            if own is not None:
                facts = self._resolver.project.function(above[0], own)
                return any(_names_it(one) for one in facts.decorators)
        return False

    def _decorators(self, one: ClassId) -> tuple[Expr, ...]:
        return self._resolver.project.class_(*one).decorators

    def _in_urls(self) -> set[Value]:
        """Return what is wrapped by a call: ``non_atomic_requests(Buy.as_view())``."""
        if self._wrapped is None:
            self._wrapped = set(self._find_wrapped())
        return self._wrapped

    def _find_wrapped(self) -> Iterator[Value]:
        for module, facts in enumerate(self._resolver.project.modules):
            for number, function in enumerate(facts.functions):
                for call in function.calls:
                    if call.args and call.callee[-1:] == (NAME,):
                        value = self._resolver.value(_view(call.args[0]), module, number)
                        yield from [value] if value is not None else []


def _view(expr: Expr) -> Expr:
    """Return ``Buy`` of ``Buy.as_view()``, all else as it is."""
    if expr[:1] == ("call",) and expr[1][:1] == ("attr",) and expr[1][2] == "as_view":
        base: Expr = expr[1][1]
        return base
    return expr


def _is_for_dispatch(decorator: Expr) -> bool:
    """Say whether it is ``@method_decorator(non_atomic_requests, name="dispatch")``."""
    if decorator[:1] != ("call",) or not _names_it(decorator):
        return False
    name = dict(decorator[3]).get("name") or (decorator[2][1] if len(decorator[2]) > 1 else ())
    return bool(name == ("const", "dispatch"))


def _names_it(part: Any) -> bool:
    """Say whether an expression names it, as a decorator or as the argument of one."""
    return isinstance(part, tuple) and any(one == NAME or _names_it(one) for one in part)
