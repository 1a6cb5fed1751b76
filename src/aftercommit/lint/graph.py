"""Who calls whom, in which transaction: the facts of all files become one graph."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

from aftercommit.lint.deferring import Deferring
from aftercommit.lint.dispatchers import Dispatch, Dispatchers
from aftercommit.lint.entries import Entries
from aftercommit.lint.environment import Environment
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.project import Project
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.signals import Receiver, Signals
from aftercommit.lint.transactions import Transaction, Transactions
from aftercommit.lint.values import FunctionId, Value

WRITES_ROWS = {"acreate", "create", "get_or_create", "update_or_create", "aget_or_create"}
MOST_OVERRIDES = 8
# Too common to say by themselves which class is meant.
COMMON = {
    "add", "all", "append", "apply", "as_view", "build", "cancel", "check", "clean", "clear",
    "close", "commit", "connect", "copy", "count", "create", "delete", "dispatch", "emit",
    "enter", "execute", "exists", "exit", "extend", "fail", "fetch", "filter", "first", "flush",
    "format", "get", "get_or_create", "handle", "info", "init", "items", "join", "json", "keys",
    "last", "load", "log", "lower", "notify", "open", "parse", "pop", "post", "process", "put",
    "publish", "read", "register", "remove", "render", "reset", "restore", "retry", "run", "save",
    "search", "send", "send_message", "set", "setup", "sort", "split", "start", "stop", "strip",
    "submit", "sync", "task", "trigger", "update", "upper", "validate", "values", "write",
}  # fmt: skip
ELSEWHERE = {
    "Thread",
    "Timer",
    "Process",
    "submit",
    "connect",
    "path",
    "re_path",
    "url",
    "register",
}


@dataclass(frozen=True, slots=True)
class Edge:
    """A call from one function to another."""

    caller: FunctionId
    callee: FunctionId
    call: Call
    transaction: Transaction | None  # open around the call by the caller itself
    certain: bool
    via: str = ""  # what stands between: a signal


@dataclass(slots=True)
class Graph:
    """All calls and dispatches of a project."""

    into: dict[FunctionId, list[Edge]] = field(default_factory=lambda: defaultdict(list))
    out: dict[FunctionId, list[Edge]] = field(default_factory=lambda: defaultdict(list))
    dispatches: list[tuple[FunctionId, Call, Dispatch]] = field(default_factory=list)
    deferred: set[FunctionId] = field(default_factory=set)
    tasks: set[FunctionId] = field(default_factory=set)
    on_commits: list[tuple[FunctionId, Call, tuple[Expr, ...]]] = field(default_factory=list)


class Knowledge:
    """All that answers questions about a project, made in the order in which it is needed."""

    def __init__(self, project: Project, environment: Environment) -> None:
        self.project = project
        self.environment = environment
        self.resolver = Resolver(project)
        self.deferring = Deferring(self.resolver)
        self.transactions = Transactions(self.resolver, environment)
        self.dispatchers = Dispatchers(self.resolver, environment)
        self.signals = Signals(self.resolver)
        self.entries = Entries(self.resolver, self.signals, self.dispatchers, environment)


def build(known: Knowledge) -> Graph:
    """Return the graph of a project."""
    return _Builder(known).build()


class _Builder:
    def __init__(self, known: Knowledge) -> None:
        self.known = known
        self.project = known.project
        self.graph = Graph()
        self.methods: dict[str, list[FunctionId]] = defaultdict(list)
        self.waits: dict[FunctionId, bool] = {}

    def build(self) -> Graph:
        for module, facts in enumerate(self.project.modules):
            for one in facts.classes:
                for name, number in one.methods:
                    self.methods[name].append((module, number))
        for module, facts in enumerate(self.project.modules):
            for number, function in enumerate(facts.functions):
                if self._waits((module, number)):
                    self.graph.deferred.add((module, number))
                for call in function.calls:
                    self._call(call, module, number)
        return self.graph

    def _call(self, call: Call, module: int, function: int) -> None:
        here = module, function
        callbacks = self.known.deferring.callbacks(call, module, function)
        if callbacks is not None:
            self.graph.on_commits.append((here, call, callbacks))
            for expr in callbacks:
                self.graph.deferred.update(self._called_by(expr, module, function))
            return
        dispatch = self.known.dispatchers.recognise(call, module, function)
        if dispatch is not None:
            self.graph.dispatches.append((here, call, dispatch))
            if dispatch.task is not None:
                self.graph.tasks.add(dispatch.task)
            return
        for target, certain, via in self._targets(call, module, function):
            self._edge(here, target, call, certain=certain, via=via)
        self._arguments(call, module, function)

    def _edge(
        self,
        caller: FunctionId,
        callee: FunctionId,
        call: Call,
        *,
        certain: bool,
        via: str = "",
        around: Transaction | None = None,
    ) -> None:
        if self._waits(callee):
            return
        transaction = around or self.known.transactions.around(call, *caller)
        edge = Edge(caller, callee, call, transaction, certain, via)
        self.graph.into[callee].append(edge)
        self.graph.out[caller].append(edge)

    def _waits(self, function: FunctionId) -> bool:
        if function not in self.waits:
            decorators = self.project.function(*function).decorators
            self.waits[function] = bool(decorators) and self.known.deferring.defers_decorated(
                *function
            )
        return self.waits[function]

    # What a call calls.

    def _targets(
        self, call: Call, module: int, function: int
    ) -> Iterator[tuple[FunctionId, bool, str]]:
        for receiver in self.known.signals.sent_by(call, module, function):
            yield receiver.function, True, _sentence(receiver)
        for receiver in self.known.signals.perhaps_sent_by(call, module, function):
            yield receiver.function, False, _sentence(receiver)
        match self.known.resolver.value(call.callee, module, function):
            case ("function", where, number):
                yield (where, number), True, ""
            case ("method", where, number, receiver):
                yield from self._of_method((where, number), receiver, call)
            case ("class" | "instance" as kind, where, number):
                name = "__init__" if kind == "class" else "__call__"
                found = self.known.resolver.classes.method(where, number, name)
                yield from [(found, True, "")] if found else []
            case ("on", ("rows", where, number, _), name):
                yield from self._of_rows(call, where, number, name)
            case None:
                yield from self._by_name(call, module, function)

    def _of_method(
        self, target: FunctionId, receiver: Value, call: Call
    ) -> Iterator[tuple[FunctionId, bool, str]]:
        yield target, True, ""
        name = self.project.function(*target).name
        if receiver[0] not in {"instance", "class"}:
            return
        _, where, number, *_ = receiver
        for one in self.known.resolver.classes.overrides(where, number, name)[:MOST_OVERRIDES]:
            if one != target:
                yield one, False, ""
        if name in {"save", "delete"}:
            yield from self._receivers(call, where, number, name)

    def _of_rows(
        self, call: Call, module: int, number: int, name: str
    ) -> Iterator[tuple[FunctionId, bool, str]]:
        if name in WRITES_ROWS:
            save = self.known.resolver.classes.method(module, number, "save")
            if save is not None:
                yield save, True, ""
        if name in WRITES_ROWS or name in {"delete", "adelete"}:
            yield from self._receivers(call, module, number, name)

    def _receivers(
        self, call: Call, module: int, number: int, name: str
    ) -> Iterator[tuple[FunctionId, bool, str]]:
        kind = "delete" if "delete" in name else "save"
        for one in self.known.resolver.classes.mro(module, number):
            for receiver in self.known.signals.of_model.get((kind, *one), ()):
                if receiver.name != "m2m_changed":
                    yield receiver.function, True, _sentence(receiver)

    def _by_name(
        self, call: Call, module: int, function: int
    ) -> Iterator[tuple[FunctionId, bool, str]]:
        callee = call.callee
        if not callee or callee[0] != "attr":
            return
        name = callee[2]
        if name in {"save", "delete"}:  # of a model whose class defines no override
            row = self.known.resolver.value(callee[1], module, function)
            if row is not None and row[0] == "instance":
                yield from self._receivers(call, row[1], row[2], name)
            return
        found = self.methods.get(name, ())
        if len(found) == 1 and name not in COMMON and not name.startswith("__"):
            yield found[0], False, ""

    # Functions that are handed on.

    def _arguments(self, call: Call, module: int, function: int) -> None:
        words = [(name, value) for name, value in call.keywords]
        given = [("", arg) for arg in call.args] + words
        interesting = [
            (n, v) for n, v in given if v and v[0] in {"lambda", "name", "attr", "call"}
        ]
        if not interesting or dotted(call.callee).rsplit(".", 1)[-1] in ELSEWHERE:
            return
        called = self.known.resolver.value(call.callee, module, function)
        if called is not None and called[0] in {"function", "method"}:
            self._handed_to_the_project(call, called, module, function)
            return
        atomic = self._as_atomic(call, called)
        for _, expr in interesting:
            if expr[0] == "lambda" or atomic:
                for target in self._called_by(expr, module, function):
                    self._edge((module, function), target, call, certain=True, around=atomic)

    def _as_atomic(self, call: Call, called: Value | None) -> Transaction | None:
        """Take ``view = transaction.atomic(view)`` into account."""
        is_atomic = (
            called is not None and called[0] == "outside" and called[1].endswith(".atomic")
        )
        return Transaction(line=call.line) if is_atomic else None

    def _handed_to_the_project(
        self, call: Call, called: Value, module: int, function: int
    ) -> None:
        facts = self.project.function(called[1], called[2])
        params = [name for name, _ in facts.params]
        if called[0] == "method":
            params = params[1:]
        given = [*zip(params, call.args, strict=False), *call.keywords]
        for name, expr in given:
            if not expr or expr[0] not in {"lambda", "name", "attr", "call"}:
                continue
            calls = [one for one in facts.calls if one.callee == ("name", name)]
            targets = (
                self._called_by(expr, module, function) if calls or expr[0] == "lambda" else ()
            )
            for target in targets:
                for one in calls:
                    self._edge((called[1], called[2]), target, one, certain=True)
                if not calls:
                    self._edge((module, function), target, call, certain=False)

    def _called_by(
        self, expr: Expr, module: int, function: int, seen: frozenset[str] = frozenset()
    ) -> list[FunctionId]:
        """Return what is called by calling ``f``, ``partial(f, x)`` or a lambda."""
        if expr and expr[0] == "call":
            if not dotted(expr[1]).endswith("partial") or not expr[2]:
                return []
            return self._called_by(expr[2][0], module, function, seen)
        if expr and expr[0] == "any":
            return [f for one in expr[1:] for f in self._called_by(one, module, function, seen)]
        if expr and expr[0] == "name" and expr[1] not in seen:
            seen |= {expr[1]}  # f = partial(f, x) leads back to f
            set_to = self.project.assigns(module, function).get(expr[1], ())
            found = [one for one in set_to if one and one[0] in {"call", "lambda", "any"}]
            if found:
                return [f for one in found for f in self._called_by(one, module, function, seen)]
        value = self.known.resolver.value(expr, module, function)
        if value is not None and value[0] in {"function", "method"}:
            return [(value[1], value[2])]
        return []


def _sentence(receiver: Receiver) -> str:
    return f"the signal {receiver.name}"
