"""Says what an expression is: a function, a class, an instance, a module, or another's name."""

from collections.abc import Callable, Hashable
from typing import Any

from aftercommit.lint.annotations import Annotations
from aftercommit.lint.calls import Calls
from aftercommit.lint.classes import Classes
from aftercommit.lint.definitions import Definitions
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Expr
from aftercommit.lint.names import Names
from aftercommit.lint.project import Project
from aftercommit.lint.values import Value

DEEPEST = 14
MANAGERS = {"_base_manager", "_default_manager", "all_objects", "objects"}


class Resolver:
    """Evaluates expressions in the place where they stand, without running anything."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.classes = Classes(project, self)
        self.names = Names(self)
        self.calls = Calls(self)
        self.annotations = Annotations(self)
        self.definitions = Definitions(self)
        self._memo: dict[Hashable, Value | None] = {}
        self._open: set[Hashable] = set()

    def value(self, expr: Expr, module: int, function: int) -> Value | None:
        """Return what an expression is in a function (0: in the module), None if unknown."""
        if not expr:
            return None
        return self.once((expr, module, function), self._value, expr, module, function)

    def once(self, key: Hashable, find: Callable[..., Value | None], *args: Any) -> Value | None:
        """Return what ``find`` finds, by heart the second time; None where it asks for itself."""
        if key in self._memo:
            return self._memo[key]
        if key in self._open or len(self._open) > DEEPEST * 2:
            return None
        self._open.add(key)
        try:
            found = find(*args)
        finally:
            self._open.discard(key)
        if found is not None or not self._open:
            self._memo[key] = found
        return found

    def _value(self, expr: Expr, module: int, function: int) -> Value | None:
        find = _KINDS.get(expr[0])
        return find(self, expr, module, function) if find else None

    def first(self, options: tuple[Expr, ...], module: int, function: int) -> Value | None:
        """Return what the first of some expressions is that can be resolved."""
        for one in options:
            found = self.value(one, module, function)
            if found is not None:
                return found
        return None

    def down(self, value: Value | None, names: list[str]) -> Value | None:
        """Return ``value.a.b.c``."""
        for name in names:
            if value is None:
                return None
            value = self.attribute(value, name)
        return value

    # The kinds of expressions.

    def _name(self, expr: Expr, module: int, function: int) -> Value | None:
        return self.names.lookup(expr[1], module, function)

    def _attr(self, expr: Expr, module: int, function: int) -> Value | None:
        _, base, name = expr
        if base and base[0] == "name":  # self.x is set by its whole name
            set_to = self.project.assigns(module, function).get(f"{base[1]}.{name}", ())
            found = self.first(tuple(set_to), module, function)
            if found is not None:
                return found
        if base and base[0] == "call" and base[1] == ("name", "super"):
            return self._of_super(name, module, function)
        value = self.value(base, module, function)
        if value is None:
            return self._by_text(expr, module)
        return self.attribute(value, name)

    def _call(self, expr: Expr, module: int, function: int) -> Value | None:
        return self.calls.called(expr[1], expr[2], module, function)

    def _local(self, expr: Expr, module: int, function: int) -> Value | None:
        return (expr[1], module, expr[2])

    def _lambda(self, expr: Expr, module: int, function: int) -> Value | None:
        return ("function", module, expr[1])

    def _any(self, expr: Expr, module: int, function: int) -> Value | None:
        return self.first(expr[1:], module, function)

    def _typed(self, expr: Expr, module: int, function: int) -> Value | None:
        found = self.annotations.held(expr[1], module, function)
        return found or self.value(expr[2], module, function)

    def _each(self, expr: Expr, module: int, function: int) -> Value | None:
        return _element(self.value(expr[1], module, function))

    def _item(self, expr: Expr, module: int, function: int) -> Value | None:
        value = self.value(expr[1], module, function)
        if value is not None and value[0] == "pair":
            return value[1] if expr[2] == ("const", 0) else None
        return _element(value)

    def _entered(self, expr: Expr, module: int, function: int) -> Value | None:
        return self.value(expr[1], module, function)

    # Attributes.

    def attribute(self, value: Value, name: str) -> Value | None:
        """Return ``value.name``."""
        kind = value[0]
        if kind == "module":
            return self.names.member(value[1], name)
        if kind == "outside":
            return ("outside", f"{value[1]}.{name}")
        if kind in {"class", "instance"}:
            return self._of_class(value, name)
        return self._of_bound(value, name)

    def _of_bound(self, value: Value, name: str) -> Value | None:
        match value:
            case ("rows", _, _, manager):
                found = self.classes.method(manager[0], manager[1], name) if manager else None
                return ("method", *found, value) if found else ("on", value, name)
            case ("function" | "method", *_):
                return ("on", value, name)  # task.delay
            case ("on", ("function" | "method", *_) as task, before) if before.endswith("()"):
                return ("on", task, name)  # task.s(…).apply_async
        return None

    def _of_class(self, value: Value, name: str) -> Value | None:
        _, module, number = value
        found = self.classes.method(module, number, name)
        if found is not None:
            facts = self.project.function(*found)
            if any(dotted(one).endswith("property") for one in facts.decorators):
                return self.calls.returned(*found, value)
            return ("method", *found, value)
        field = self.classes.field(module, number, name)
        if field is not None:
            return self._as_manager(field, module, number)
        if name in MANAGERS and self.classes.is_kind(module, number, "model"):
            return ("rows", module, number, None)
        return ("class", module, number) if name == "__class__" else None

    def _as_manager(self, value: Value, module: int, number: int) -> Value:
        if value[0] == "instance" and self.classes.is_kind(value[1], value[2], "manager"):
            return ("rows", module, number, value[1:])
        if value[0] == "outside" and value[1].endswith(("Manager()", "as_manager()")):
            return ("rows", module, number, None)
        return value

    def _by_text(self, expr: Expr, module: int) -> Value | None:
        """Take ``import a.b`` into account: ``a.b.c`` names a module of the project."""
        text = dotted(expr)
        first = text.split(".", 1)[0]
        if not text or "()" in text or self.project.imports(module, 0).get(first) != first:
            return None
        found = self.names.imported(text, module)
        return found if found and found[0] != "outside" else None

    def _of_super(self, name: str, module: int, function: int) -> Value | None:
        while function > 0:
            facts = self.project.function(module, function)
            if facts.owner >= 0:
                found = self.classes.method(module, facts.owner, name, skip_own=True)
                return ("method", *found, ("instance", module, facts.owner)) if found else None
            function = facts.parent
        return None


def _element(value: Value | None) -> Value | None:
    match value:
        case ("rows", module, number, _):
            return ("instance", module, number)
        case ("many", inner):
            return inner  # type: ignore[no-any-return]
    return None


_KINDS: dict[str, Callable[[Resolver, Expr, int, int], Value | None]] = {
    "any": Resolver._any,
    "attr": Resolver._attr,
    "call": Resolver._call,
    "each": Resolver._each,
    "entered": Resolver._entered,
    "item": Resolver._item,
    "lambda": Resolver._lambda,
    "local": Resolver._local,
    "name": Resolver._name,
    "typed": Resolver._typed,
}
