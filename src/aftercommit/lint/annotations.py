"""What a name holds by its annotation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Expr
from aftercommit.lint.values import Value

if TYPE_CHECKING:
    from aftercommit.lint.resolve import Resolver

WRAPPERS = {"Annotated", "ClassVar", "Final", "Optional", "Required"}
LISTS = {
    "AsyncIterable", "AsyncIterator", "Collection", "Iterable", "Iterator", "List", "QuerySet",
    "Sequence", "Set", "Tuple", "frozenset", "list", "set", "tuple",
}  # fmt: skip


class Annotations:
    """Evaluates annotations: ``Order``, ``"Order"``, ``Order | None``, ``list[Order]``."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def held(self, written: Expr, module: int, function: int) -> Value | None:
        """Return what a name with this annotation holds, None if unknown."""
        match written:
            case ("const", str(text)) if text.replace(".", "").isidentifier():
                first, *rest = text.split(".")
                found = self._resolver.names.lookup(first, module, 0)
                return _instance(self._resolver.down(found, rest))
            case ("name" | "attr", *_):
                return _instance(self._resolver.value(written, module, function))
            case ("any", *options):
                every = (self.held(one, module, function) for one in options)
                return next((one for one in every if one is not None), None)
            case ("item", base, inner):
                return self._generic(base, inner, module, function)
        return None

    def _generic(self, base: Expr, inner: Expr, module: int, function: int) -> Value | None:
        name = dotted(base).rsplit(".", 1)[-1]
        first = inner[1] if inner[:1] == ("mix",) and len(inner) > 1 else inner
        found = self.held(first, module, function)
        if name in WRAPPERS:
            return found
        if name in {"Type", "type"}:
            return ("class", *found[1:]) if found and found[0] == "instance" else None
        if name in LISTS and found is not None:
            return ("many", found)
        return _instance(self._resolver.value(base, module, function))


def _instance(value: Value | None) -> Value | None:
    if value is not None and value[0] == "class":
        return ("instance", *value[1:])
    if value is not None and value[0] == "outside":
        return ("outside", f"{value[1]}()")
    return None
