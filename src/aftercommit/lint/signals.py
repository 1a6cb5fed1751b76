"""Receivers of signals: which function is called when, and for which model."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.values import FunctionId, Value

SAVE = {"pre_save", "post_save"}
DELETE = {"pre_delete", "post_delete", "m2m_changed"}
NEVER_IN_A_TRANSACTION = {
    "class_prepared", "connection_created", "got_request_exception", "post_init", "pre_init",
    "post_migrate", "pre_migrate", "request_finished", "request_started", "setting_changed",
    "user_logged_in", "user_logged_out", "user_login_failed",
}  # fmt: skip
RECEIVER_ARGS = {"sender", "instance", "created", "signal", "kwargs"}


@dataclass(frozen=True, slots=True)
class Receiver:
    """A function that a signal calls."""

    function: FunctionId
    kind: str  # "save", "delete", "other", "never"
    name: str  # of the signal
    signal: tuple[Any, ...] | None  # the place where a signal of the project is made
    sender: tuple[int, int] | None  # the model
    any_sender: bool


class Signals:
    """All receivers of a project."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self.of_function: dict[FunctionId, list[Receiver]] = defaultdict(list)
        self.of_model: dict[tuple[str, int, int], list[Receiver]] = defaultdict(list)
        self.of_signal: dict[tuple[Any, ...], list[Receiver]] = defaultdict(list)
        self._places: dict[str, set[tuple[Any, ...]]] = defaultdict(set)  # of signals, by name
        for module, facts in enumerate(resolver.project.modules):
            for number, function in enumerate(facts.functions):
                for decorator in function.decorators:
                    self._decorated(decorator, module, number, function.parent)
                for call in function.calls:
                    if call.callee and call.callee[0] == "attr" and call.callee[2] == "connect":
                        self._connected(call, module, number)

    def sent_by(self, call: Call, module: int, function: int) -> list[Receiver]:
        """Return the receivers of a signal of the project that a call sends."""
        callee = call.callee
        if not callee or callee[0] != "attr" or not callee[2].startswith(("send", "asend")):
            return []
        place = self._resolver.definitions.place(callee[1], module, function)
        return self.of_signal.get(place, []) if place else []

    def perhaps_sent_by(self, call: Call, module: int, function: int) -> list[Receiver]:
        """Return the receivers of the only signal of a name that a call sends on any object."""
        callee = call.callee
        if not callee or callee[0] != "attr" or not callee[2].startswith(("send", "asend")):
            return []
        if callee[1][:1] != ("attr",):
            return []
        places = self._places.get(callee[1][2], set())
        if len(places) != 1 or self._resolver.definitions.place(callee[1], module, function):
            return []
        return self.of_signal[next(iter(places))]

    def _decorated(self, expr: Expr, module: int, function: int, parent: int) -> None:
        if not expr or expr[0] != "call":
            return
        _, callee, args, keywords = expr
        name = dotted(callee).rsplit(".", 1)[-1]
        if name == "receiver" and args:
            for signal in args[0][1:] if args[0] and args[0][0] == "mix" else args[:1]:
                self._add(signal, dict(keywords), (module, function), module, max(parent, 0))

    def _connected(self, call: Call, module: int, function: int) -> None:
        words = dict(call.keywords)
        given = call.args[0] if call.args else words.get("receiver", ())
        if len(call.args) > 1:
            words.setdefault("sender", call.args[1])
        for target in self._functions(given, module, function):
            self._add(call.callee[1], words, target, module, function)

    def _functions(self, given: Expr, module: int, function: int) -> Iterator[FunctionId]:
        value = self._resolver.value(given, module, function)
        if value is not None and value[0] in {"function", "method"}:
            yield value[1], value[2]
        if value is not None and value[0] == "method" and value[3][0] in {"class", "instance"}:
            name = self._resolver.project.function(value[1], value[2]).name
            _, where, number, *_ = value[3]
            yield from self._resolver.classes.overrides(where, number, name)

    def _add(
        self, signal: Expr, words: dict[str, Expr], target: FunctionId, module: int, function: int
    ) -> None:
        name, place = self._named(signal, module, function)
        if not name:
            return
        kind = _kind(name, self._parameters(target))
        sender = self._sender(words.get("sender", ()), module, function)
        receiver = Receiver(target, kind, name, place, sender, "sender" not in words)
        self.of_function[target].append(receiver)
        if kind in {"save", "delete"} and sender is not None:
            self.of_model[(kind, *sender)].append(receiver)
        if kind == "other" and place is not None:
            self.of_signal[place].append(receiver)
            self._places[name].add(place)

    def _named(self, signal: Expr, module: int, function: int) -> tuple[str, Any]:
        value = self._resolver.value(signal, module, function)
        place = self._resolver.definitions.place(signal, module, function)
        name = dotted(signal).rsplit(".", 1)[-1]
        match value:
            case ("outside", origin) if "()" not in origin:
                return origin.rsplit(".", 1)[-1], (origin,)
            case None:
                return name, place
            case ("outside", origin) if "ignal" in origin:
                return name, place
            case ("instance", *_) if self._is_signal(value):
                return name, place
        return "", place

    def _is_signal(self, value: Value) -> bool:
        above = self._resolver.classes.mro(value[1], value[2])
        bases = [name for one in above for name in self._resolver.classes.bases(*one)[1]]
        return any(name.endswith("Signal") for name in bases)

    def _parameters(self, target: FunctionId) -> set[str]:
        return {name for name, _ in self._resolver.project.function(*target).params}

    def _sender(self, expr: Expr, module: int, function: int) -> tuple[int, int] | None:
        if expr and expr[0] == "attr" and expr[2] == "through":  # User.followers.through
            expr = expr[1][1] if expr[1] and expr[1][0] == "attr" else expr
        value = self._resolver.value(expr, module, function)
        if value is not None and value[0] == "class":
            return value[1], value[2]
        if expr and expr[0] == "const" and isinstance(expr[1], str):
            found = self._resolver.classes.named(expr[1].rsplit(".", 1)[-1])
            return (found[1], found[2]) if found else None
        return None


def _kind(name: str, parameters: set[str]) -> str:
    if name in SAVE:
        return "save"
    if name in DELETE:
        return "delete"
    if name in NEVER_IN_A_TRANSACTION or name.startswith(
        ("task_", "worker_", "beat_", "celeryd")
    ):
        return "never"
    return "other"
