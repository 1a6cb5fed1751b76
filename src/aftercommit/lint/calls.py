"""What a call returns: an instance, a row, rows, or what the annotation of a function says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Expr
from aftercommit.lint.values import Value

if TYPE_CHECKING:
    from aftercommit.lint.resolve import Resolver

ONE_ROW = {
    "acreate", "afirst", "aget", "alast", "create", "create_user", "earliest", "first", "get",
    "last", "latest",
}  # fmt: skip
PAIR = {"aget_or_create", "aupdate_or_create", "get_or_create", "update_or_create"}
MANY = {"bulk_create", "in_bulk"}
NO_ROWS = {
    "aaggregate", "acount", "aexists", "aggregate", "count", "dates", "datetimes",
    "delete", "exists", "explain", "update", "values", "values_list",
}  # fmt: skip
LOOKUPS = {"aget_object_or_404", "get_object_or_404", "get_object_or_None"}
RELATIONS = {"ForeignKey", "OneToOneField", "ParentalKey"}
MODEL_LOADERS = {"get_model", "load_model"}
RETURNS_LOOKED_AT = 3


class Calls:
    """Evaluates calls."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def called(
        self, callee: Expr, args: tuple[Expr, ...], module: int, function: int
    ) -> Value | None:
        """Return what calling an expression returns, None if unknown."""
        value = self._resolver.value(callee, module, function)
        match value:
            case None:
                return self._of_builtin(callee, args, module, function)
            case ("class", where, number):
                return ("instance", where, number)
            case ("function" | "method", where, number, *receiver):
                return self.returned(where, number, receiver[0] if receiver else None)
            case ("on", on, name):
                is_rows = on[0] == "rows"
                return _of_query(on, name) if is_rows else ("on", on, f"{name}()")
            case ("outside", origin):
                return self._of_outside(origin, args, module, function)
        return None

    def returned(self, module: int, function: int, receiver: Value | None) -> Value | None:
        """Return what a function returns: by its annotation, or by what it says itself."""
        facts = self._resolver.project.function(module, function)
        if facts.returns:
            if dotted(facts.returns).rsplit(".", 1)[-1] == "Self":
                return receiver
            found = self._resolver.annotations.held(facts.returns, module, function)
            if found is not None:
                return found
        return self._resolver.first(facts.returned[:RETURNS_LOOKED_AT], module, function)

    def _of_builtin(
        self, callee: Expr, args: tuple[Expr, ...], module: int, function: int
    ) -> Value | None:
        if callee == ("name", "type") and len(args) == 1:
            value = self._resolver.value(args[0], module, function)
            return ("class", *value[1:]) if value and value[0] == "instance" else None
        if callee == ("name", "list") and args:
            return self._resolver.value(args[0], module, function)
        return None

    def _of_outside(
        self, origin: str, args: tuple[Expr, ...], module: int, function: int
    ) -> Value | None:
        last = origin.rsplit(".", 1)[-1]
        if last == "get_user_model":
            return self._resolver.classes.user_model() or ("outside", f"{origin}()")
        if args and last in LOOKUPS | RELATIONS | MODEL_LOADERS | {"cast"}:
            return self._of_known(last, args, module, function)
        return ("outside", f"{origin}()")

    def _of_known(
        self, last: str, args: tuple[Expr, ...], module: int, function: int
    ) -> Value | None:
        if last in LOOKUPS:
            of = self._resolver.value(args[0], module, function)
            return ("instance", of[1], of[2]) if of and of[0] in {"class", "rows"} else None
        if last in RELATIONS:
            return self._related(args[0], module, function)
        if last == "cast":
            return self._resolver.annotations.held(args[0], module, function)
        is_name = args[-1][:1] == ("const",)
        name = str(args[-1][1]).rsplit(".", 1)[-1] if is_name else ""
        return self._resolver.classes.named(name)

    def _related(self, to: Expr, module: int, function: int) -> Value | None:
        """Return a row of the model that a foreign key leads to."""
        if to[:1] == ("const",):
            found = self._resolver.classes.named(str(to[1]).rsplit(".", 1)[-1])
        else:
            found = self._resolver.value(to, module, function)
        if found is None and dotted(to).endswith("AUTH_USER_MODEL"):
            found = self._resolver.classes.user_model()
        return ("instance", *found[1:]) if found and found[0] == "class" else None


def _of_query(rows: Value, name: str) -> Value:
    row = ("instance", rows[1], rows[2])
    if name in ONE_ROW:
        return row
    if name in PAIR:
        return ("pair", row)
    if name in NO_ROWS:
        return ("on", rows, f"{name}()")
    return ("many", row) if name in MANY else rows
