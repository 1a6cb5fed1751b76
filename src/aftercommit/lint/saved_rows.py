"""Models whose rows Django itself saves in a transaction: in the admin, by get_or_create()."""

from collections.abc import Iterator
from functools import cached_property

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.resolve import Resolver

PAIRS = {"aget_or_create", "aupdate_or_create", "get_or_create", "update_or_create"}
DELETES = {"adelete", "delete"}
ClassId = tuple[int, int]


class SavedRows:
    """Says of models whether the project lets Django save or delete their rows."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def in_a_transaction(self, module: int, model: int, method: str) -> bool:
        """Say whether Django may call ``save()`` or ``delete()`` of a model in a transaction."""
        models = self._in_admin if method in DELETES else self._in_admin | self._in_pairs
        mro = self._resolver.classes.mro
        return any((module, model) in mro(*one) for one in models)

    @cached_property
    def _in_admin(self) -> set[ClassId]:
        found: set[ClassId] = set()
        for module, facts in enumerate(self._resolver.project.modules):
            for number, one in enumerate(facts.classes):
                for decorator in one.decorators:
                    if decorator[:1] == ("call",) and dotted(decorator[1]).endswith("register"):
                        found.update(self._classes(decorator[2], module, 0))
                inlined = [value for name, value in one.attributes if name == "model"]
                if inlined and self._resolver.classes.is_kind(module, number, "admin"):
                    found.update(self._classes(tuple(inlined), module, 0))
            for number, call in self._calls(module):
                if dotted(call.callee).endswith(".register"):
                    found.update(self._classes(call.args[:1], module, number))
        return found

    @cached_property
    def _in_pairs(self) -> set[ClassId]:
        found: set[ClassId] = set()
        for module in range(len(self._resolver.project.modules)):
            for number, call in self._calls(module):
                if call.callee[:1] == ("attr",) and call.callee[2] in PAIRS:
                    rows = self._resolver.value(call.callee[1], module, number)
                    if rows is not None and rows[0] == "rows":
                        found.add((rows[1], rows[2]))
        return found

    def _calls(self, module: int) -> Iterator[tuple[int, Call]]:
        for number, function in enumerate(self._resolver.project.modules[module].functions):
            for call in function.calls:
                yield number, call

    def _classes(self, given: tuple[Expr, ...], module: int, function: int) -> Iterator[ClassId]:
        for expr in given:
            for one in expr[1:] if expr[:1] == ("mix",) else (expr,):
                value = self._resolver.value(one, module, function)
                if value is not None and value[0] == "class":
                    yield value[1], value[2]
