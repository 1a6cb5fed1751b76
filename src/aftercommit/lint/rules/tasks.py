"""Tasks that wait for commits, and what they are given: AC221, AC222 and AC225."""

from collections.abc import Iterator

from aftercommit.lint.delays import hides_the_race
from aftercommit.lint.dispatchers import Dispatch
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.findings import Finding, finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield countdowns, instances as arguments, and retries for missing rows."""
    yield from _of_dispatches(known, graph, reach)
    for module, facts in enumerate(known.project.modules):
        for number, one in enumerate(facts.functions):
            for call in one.calls:
                if call.handling and _waits_for_a_row(known, (module, number), call):
                    yield _at("AC222", known, (module, number), call, f"{one.name}()")


def _of_dispatches(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    for function, call, dispatch in graph.dispatches:
        if dispatch.waits or function in reach.waiting:
            continue
        inside = known.transactions.around(call, *function) or function in reach.reached
        if inside and hides_the_race(call, dispatch):
            yield _at("AC221", known, function, call, dispatch.subject)
        if _gets_an_instance(known, function, call, dispatch):
            yield _at("AC225", known, function, call, dispatch.subject)


def _at(rule: str, known: Knowledge, function: FunctionId, call: Call, subject: str) -> Finding:
    return finding(
        rule,
        path=known.project.path(function[0]),
        line=call.line,
        end_line=call.end_line,
        column=call.column,
        subject=subject,
    )


def _gets_an_instance(
    known: Knowledge, function: FunctionId, call: Call, dispatch: Dispatch
) -> bool:
    if dispatch.library not in {"celery", "dramatiq"}:
        return False
    if not dotted(call.callee).endswith((".delay", ".send")):
        return False
    values = (
        known.resolver.value(expr, *function) for expr in dispatch.arguments if _plain(expr)
    )
    return any(
        value is not None
        and value[0] == "instance"
        and known.resolver.classes.is_kind(value[1], value[2], "model")
        for value in values
    )


def _plain(expr: Expr) -> bool:
    return expr[:1] == ("name",)


def _waits_for_a_row(known: Knowledge, function: FunctionId, call: Call) -> bool:
    caught = call.handling
    texts = [dotted(one) for one in (caught[1:] if caught[:1] == ("mix",) else (caught,))]
    if not any(text.endswith("DoesNotExist") for text in texts):
        return False
    name = dotted(call.callee)
    if not known.dispatchers.library(*function)[0]:
        return False
    return name in {"self.retry", "time.sleep", "sleep"} or name.endswith(".retry")
