"""Errors that lose a transaction without a word: AC113, and AC223 beside it."""

from collections.abc import Iterator

from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Expr
from aftercommit.lint.findings import Finding, finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield swallowed errors around ``savepoint=False``, and autocommit switched off."""
    for module, facts in enumerate(known.project.modules):
        for number, function in enumerate(facts.functions):
            if function.blocks and function.catches:
                yield from _swallowed(known, (module, number))
            for call in function.calls:
                name = dotted(call.callee)
                if name.endswith("set_autocommit") and call.args[:1] == (("const", False),):
                    yield finding(
                        "AC223",
                        path=facts.path,
                        line=call.line,
                        end_line=call.end_line,
                        column=call.column,
                        subject=f"{name}(False)",
                    )


def _swallowed(known: Knowledge, function: FunctionId) -> Iterator[Finding]:
    facts = known.project.function(*function)
    blocks = known.transactions.blocks(*function)
    outer = known.transactions.decorated(*function) is not None
    for number, transaction in blocks.items():
        if transaction.savepoint:
            continue
        for caught, around, first, last in facts.catches:
            inside = number not in around and first <= transaction.line <= last
            if inside and (outer or any(one in blocks for one in around)) and _catches_it(caught):
                yield finding(
                    "AC113",
                    path=known.project.path(function[0]),
                    line=transaction.line,
                    end_line=transaction.line,
                    column=0,
                    subject=f"{facts.name}()",
                )


def _catches_it(caught: Expr) -> bool:
    return bool(caught)
