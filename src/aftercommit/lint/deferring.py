"""Which calls wait for the commit, and what they call then: on_commit() and what wraps it."""

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.values import FunctionId, Value

ON_COMMIT = {"on_commit", "run_after_commit", "call_on_commit", "run_on_commit"}


class Deferring:
    """Recognises callbacks."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._deferring: dict[FunctionId, frozenset[str]] = {}

    def callbacks(self, call: Call, module: int, function: int) -> tuple[Expr, ...] | None:
        """Return what a call defers to the commit, None if it defers nothing."""
        value = self._resolver.value(call.callee, module, function)
        name = dotted(call.callee).rsplit(".", 1)[-1]
        if name in ON_COMMIT or _is_on_commit(value):
            return (*call.args[:1], *(v for n, v in call.keywords if n in {"func", "callback"}))
        if value is not None and value[0] in {"function", "method"}:
            return self._handed_on(call, value)
        return None

    def defers_decorated(self, module: int, function: int) -> bool:
        """Say whether a function runs after the commit because of its decorator."""
        facts = self._resolver.project.function(module, function)
        for expr in facts.decorators:
            name = dotted(expr).replace("()", "").rsplit(".", 1)[-1]
            if name in ON_COMMIT:
                return True
            if _is_partial_of_on_commit(expr):
                return True
            made = expr[1] if expr and expr[0] == "call" else expr
            value = self._resolver.value(made, module, max(facts.parent, 0))
            if value is not None and value[0] == "function" and self._deferred(*value[1:3]):
                return True
        return False

    def _handed_on(self, call: Call, value: Value) -> tuple[Expr, ...] | None:
        names = self._deferred(value[1], value[2])
        if not names:
            return None
        facts = self._resolver.project.function(value[1], value[2])
        params = [name for name, _ in facts.params]
        if value[0] == "method":
            params = params[1:]
        given = [arg for name, arg in zip(params, call.args, strict=False) if name in names]
        return (*given, *(arg for name, arg in call.keywords if name in names)) or None

    def _deferred(self, module: int, function: int) -> frozenset[str]:
        """Return the parameters of a function that it hands to on_commit() to be called."""
        key = module, function
        if key not in self._deferring:
            self._deferring[key] = frozenset()
            self._deferring[key] = frozenset(self._find_deferred(module, function))
        return self._deferring[key]

    def _find_deferred(self, module: int, function: int) -> set[str]:
        functions = self._resolver.project.modules[module].functions
        params = {name for name, _ in functions[function].params}
        found: set[str] = set()
        for number in (function, *self._resolver.project.inside(module, function)):
            facts = functions[number]
            for call in facts.calls:
                name = dotted(call.callee).rsplit(".", 1)[-1]
                if name not in ON_COMMIT or not call.args:
                    continue
                found |= self._called_by(call.args[0], functions) & params
        return found

    def _called_by(self, expr: Expr, functions: tuple[object, ...]) -> set[str]:
        """Return the names that a callback calls: of ``f``, ``partial(f)``, ``lambda: f()``."""
        match expr:
            case ("name", name):
                return {name}
            case ("call", _, args, _) if args:
                return self._called_by(args[0], functions)
            case ("lambda", number):
                calls = functions[number].calls  # type: ignore[attr-defined]
                return {c.callee[1] for c in calls if c.callee and c.callee[0] == "name"}
        return set()


def _is_partial_of_on_commit(expr: Expr) -> bool:
    if expr[:1] != ("call",) or not dotted(expr[1]).endswith("partial") or not expr[2]:
        return False
    return dotted(expr[2][0]).rsplit(".", 1)[-1] in ON_COMMIT


def _is_on_commit(value: Value | None) -> bool:
    return value is not None and value[0] == "outside" and value[1].endswith(".on_commit")
