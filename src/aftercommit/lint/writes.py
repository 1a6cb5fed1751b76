"""Which functions write rows: themselves, or through what they call.

A transaction that writes nothing has nothing to wait for. So the question is asked to lower a
finding, and whatever may be a write counts as one: also the call of a function that is not
known, as ``handler(request)`` in a decorator.
"""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Iterator

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr, Function
from aftercommit.lint.graph import COMMON, Graph, Knowledge
from aftercommit.lint.transactions import Transaction
from aftercommit.lint.values import FunctionId, Value

ROWS = {
    "abulk_create", "acreate", "aget_or_create", "asave", "aupdate_or_create", "bulk_create",
    "bulk_update", "call_command", "create", "create_superuser", "create_user", "form_valid",
    "get_or_create", "perform_create", "perform_destroy", "perform_update", "save", "save_base",
    "save_form", "save_formset", "save_m2m", "save_model", "save_related", "update_or_create",
}  # fmt: skip
FILES = ("bucket", "storage")  # save() of these writes a file
# Also of dictionaries, sets, caches: a write where what stands before it may be rows.
AMBIGUOUS = {"add", "adelete", "aset", "aupdate", "clear", "delete", "remove", "set", "update"}
NO_ROWS = (
    "attrs", "bucket", "cache", "client", "config", "context", "cookies", "data", "dict",
    "errors", "fields", "headers", "kwargs", "meta", "params", "redis", "request", "response",
    "s3", "session", "settings", "storage",
)  # fmt: skip
QUESTIONS = ("check_", "filter_", "get_", "has_", "is_")  # methods that only tell something
OF_SUPER = {
    "delete", "destroy", "form_valid", "mutate", "partial_update", "patch", "post", "put",
}  # fmt: skip
MAY_WRITE = ROWS | AMBIGUOUS | OF_SUPER
HANDLERS = {
    "create", "delete", "destroy", "form_valid", "get", "head", "list", "options",
    "partial_update", "patch", "perform_create", "perform_destroy", "perform_update", "post",
    "put", "retrieve", "update",
}  # fmt: skip
BUILT_IN = frozenset(dir(builtins))


class Writes:
    """Says of functions and of transactions whether they write rows."""

    def __init__(self, known: Knowledge, graph: Graph) -> None:
        self._known = known
        self._graph = graph
        self._dispatches = {(here, call) for here, call, _ in graph.dispatches}
        self._methods: dict[str, list[FunctionId]] = defaultdict(list)
        for module, facts in enumerate(known.project.modules):
            for one in facts.classes:
                for name, number in one.methods:
                    self._methods[name].append((module, number))
        self._writers = self._spread()

    def function(self, function: FunctionId) -> bool:
        """Say whether a function may write rows."""
        return function in self._writers

    def inside(self, function: FunctionId, transaction: Transaction) -> bool:
        """Say whether anything may be written in a transaction that a function opens."""
        blocks = self._known.transactions.blocks(*function)
        if transaction not in blocks.values():
            return self.function(function)  # a decorator opens it
        calls = [
            one
            for one in self._known.project.function(*function).calls
            if any(blocks.get(number) == transaction for number in one.blocks)
        ]
        if any(self._is_write(one, function) or self._by_name(one, function) for one in calls):
            return True
        edges = self._graph.out.get(function, ())
        return any(edge.call in calls and edge.callee in self._writers for edge in edges)

    def by_call(self, function: FunctionId, call: Call) -> bool:
        """Say whether a call in a function may write rows."""
        if self._is_write(call, function) or self._by_name(call, function):
            return True
        edges = self._graph.out.get(function, ())
        return any(edge.call is call and edge.callee in self._writers for edge in edges)

    def request(self, function: FunctionId) -> bool:
        """Say whether a request that is answered by a function may write rows."""
        return self._request(function, set())

    def _request(self, function: FunctionId, seen: set[FunctionId]) -> bool:
        seen.add(function)
        facts = self._known.project.function(*function)
        if facts.owner < 0 or function in self._writers or _answers_alone(facts):
            return function in self._writers
        callers = {edge.caller for edge in self._graph.into.get(function, ())} - seen
        if not callers:  # a hook of a class that is not the project's, and may have written
            return len(seen) == 1
        return any(self._request(one, seen) for one in callers)

    def _spread(self) -> set[FunctionId]:
        found: set[FunctionId] = set()
        by_name: dict[str, list[FunctionId]] = defaultdict(list)  # callers of unknown methods
        for module, facts in enumerate(self._known.project.modules):
            for number, function in enumerate(facts.functions):
                here = module, number
                if any(self._is_write(call, here) for call in function.calls):
                    found.add(here)
                for name in {self._unknown_method(call, here) for call in function.calls} - {""}:
                    by_name[name].append(here)
        left = list(found)
        while left:
            more = set(self._callers(left.pop(), by_name)) - found
            found |= more
            left += more
        return found

    def _callers(
        self, writer: FunctionId, by_name: dict[str, list[FunctionId]]
    ) -> Iterator[FunctionId]:
        yield from (edge.caller for edge in self._graph.into.get(writer, ()))
        name = self._known.project.function(*writer).name
        if writer in self._methods.get(name, ()):
            yield from by_name.get(name, ())

    def _unknown_method(self, call: Call, here: FunctionId) -> str:
        callee = call.callee
        if callee[:1] != ("attr",) or callee[2] in COMMON or callee[2] not in self._methods:
            return ""
        if callee[2].startswith((*QUESTIONS, "__")):  # super().__init__() is everybody's
            return ""
        return "" if self._known.resolver.value(callee, *here) else str(callee[2])

    def _by_name(self, call: Call, here: FunctionId) -> bool:
        name = self._unknown_method(call, here)
        return any(one in self._writers for one in self._methods.get(name, ()))

    def _is_write(self, call: Call, here: FunctionId) -> bool:
        callee = call.callee
        if not callee or (here, call) in self._dispatches:
            return False
        match callee:
            case ("name", name):
                return self._is_unknown_function(name, here)
            case ("attr", _, name) if name in MAY_WRITE:
                return self._is_written_to(call, name, here)
            case ("attr", _, "execute" | "executemany"):
                return "cursor" in dotted(callee)
        return callee[0] not in {"attr", "call"}  # handlers[name](request)

    def _is_written_to(self, call: Call, name: str, here: FunctionId) -> bool:
        callee = call.callee
        if callee[1] == ("call", ("name", "super"), (), ()):
            return self._known.resolver.value(callee, *here) is None
        if name in {"aupdate", "update"} and callee[1][:1] != ("call",):
            if not call.keywords:
                return False  # of a dictionary or set: those of rows take keywords only
            if callee[1][:1] == ("name",):
                return True  # of rows, most likely: orders.update(paid=True)
        return _may_write(name, callee[1], self._known.resolver.value(callee, *here))

    def _is_unknown_function(self, name: str, here: FunctionId) -> bool:
        if name in BUILT_IN:
            return False
        value = self._known.resolver.value(("name", name), *here)
        if value is None:
            return True
        return value[0] == "outside" and str(value[1]).endswith("call_command")


def _may_write(name: str, base: Expr, value: Value | None) -> bool:
    if value is not None and value[0] == "on":
        return True  # of rows: a task's are dispatches
    if value is not None and value[0] != "outside":
        return False  # a function of the project, which is looked at itself
    text = f".{dotted(base) if value is None else value[1]}".lower()
    if ".objects." in f"{text}.":
        return True
    if value is not None:
        text = text.removesuffix(f".{name}")
    last = text.removesuffix("()").rsplit(".", 1)[-1]
    if name in ROWS:
        return name != "save" or not any(word in last for word in FILES)
    if value is not None or any(word in last for word in NO_ROWS):
        return False
    return name == "delete" or base[:1] != ("name",)


def _answers_alone(facts: Function) -> bool:
    """Say whether nothing but this method decides what its request writes."""
    if facts.name in HANDLERS:
        return True
    names = {dotted(one).replace("()", "").rsplit(".", 1)[-1] for one in facts.decorators}
    return bool(names - {"property", "cached_property", "staticmethod", "classmethod"})
