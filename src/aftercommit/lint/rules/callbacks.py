"""Callbacks that wait for the wrong thing: AC111 and AC112."""

from collections.abc import Iterator
from dataclasses import replace

from aftercommit.lint.expressions import dotted, names_in
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.findings import Finding, Step, finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId
from aftercommit.race_rules import Severity

DEFAULT: Expr = ("const", "default")


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield what is wrong with calls of on_commit()."""
    for function, call, callbacks in graph.on_commits:
        yield from _wrong_database(known, function, call)
        yield from _loop_variable(known, function, call, callbacks)


def _wrong_database(known: Knowledge, function: FunctionId, call: Call) -> Iterator[Finding]:
    if not dotted(call.callee).endswith("on_commit"):
        return
    around = known.transactions.around(call, *function)
    if around is None:
        return
    opened = _alias(around.using)
    waited = _alias(
        dict(call.keywords).get("using") or (call.args[1] if len(call.args) > 1 else ())
    )
    if not opened or not waited or opened == waited:
        return
    if not (opened[0] == waited[0] == "const" or DEFAULT in (opened, waited)):
        return  # two variables may hold the same alias
    every = known.transactions.blocks(*function).values()
    if any(_alias(one.using) == waited for one in every):
        return
    alias = str(waited[1]) if waited[0] == "const" else dotted(waited)
    path = known.project.path(function[0])
    found = finding(
        "AC111",
        path=path,
        line=call.line,
        end_line=call.end_line,
        column=call.column,
        subject=f"database {alias!r}",
        chain=(Step(path, around.line, "the transaction is opened here"),),
    )
    yield replace(found, using=known.transactions.alias(around))


def _alias(using: Expr) -> Expr:
    return DEFAULT if not using or using == ("const", None) else using


def _loop_variable(
    known: Knowledge, function: FunctionId, call: Call, callbacks: tuple[Expr, ...]
) -> Iterator[Finding]:
    if not call.loops:
        return
    for expr in callbacks:
        captured = _captured(known, function, expr) & set(call.loops)
        if captured:
            found = finding(
                "AC112",
                severity=_severity(known, function, call, captured),
                path=known.project.path(function[0]),
                line=call.line,
                end_line=call.end_line,
                column=call.column,
                subject=f"{sorted(captured)[0]!r}",
            )
            yield replace(found, using="")


def _severity(
    known: Knowledge, function: FunctionId, call: Call, captured: set[str]
) -> Severity | None:
    """Lower the severity if a transaction in the loop itself may be the outermost one."""
    blocks = known.transactions.blocks(*function)
    facts = known.project.function(*function)
    inside = [set(facts.blocks[one].loops) for one in call.blocks if one in blocks]
    return Severity.WARNING if any(captured <= names for names in inside) else None


def _captured(known: Knowledge, function: FunctionId, expr: Expr) -> set[str]:
    """Return the names that a lambda or local function reads from around it."""
    value = known.resolver.value(expr, *function)
    if expr[:1] not in {("lambda",), ("name",)} or value is None or value[0] != "function":
        return set()
    facts = known.project.function(value[1], value[2])
    if facts.parent != max(function[1], -1) and facts.parent != function[1]:
        return set()
    read: set[str] = set()
    for one in facts.calls:
        read |= names_in(one.callee)
        for arg in (*one.args, *(value for _, value in one.keywords)):
            read |= names_in(arg)
    own = {name for name, _ in facts.params} | {one.target for one in facts.assigns}
    return read - own
