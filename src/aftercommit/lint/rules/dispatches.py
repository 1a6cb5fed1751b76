"""Dispatches inside transactions: AC101, AC102, AC201 to AC210, AC224; all others are AC301."""

from collections.abc import Iterator
from dataclasses import replace

from aftercommit.lint.arguments import about_a_written_row, names_what_is_written
from aftercommit.lint.delays import outlasts_transactions
from aftercommit.lint.dispatchers import Dispatch
from aftercommit.lint.facts import Call
from aftercommit.lint.findings import Finding, Step, finding
from aftercommit.lint.graph import Edge, Graph, Knowledge
from aftercommit.lint.reach import UNDER_REQUESTS, Reach, Sure
from aftercommit.lint.read_rows import names_only_what_is_read
from aftercommit.lint.receivers import possible_chain
from aftercommit.lint.transactions import Transaction
from aftercommit.lint.values import FunctionId
from aftercommit.race_rules import RULES, Severity

PERHAPS = (
    'If django-rq sends it, RQ["COMMIT_MODE"] decides: "on_db_commit", the default from version '
    '4.0 on, waits for the commit; "auto" does not.'
)


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield one finding for each dispatch that does not wait for a commit."""
    for function, call, dispatch in graph.dispatches:
        if dispatch.waits or function in reach.waiting:
            continue
        rule, severity, chain = _judge(known, graph, reach, function, call, dispatch)
        if dispatch.waits is None and RULES[rule].severity is Severity.ERROR:
            severity = Severity.WARNING
        is_warning = (severity or RULES[rule].severity) is Severity.WARNING
        if is_warning and outlasts_transactions(call, dispatch):
            severity = Severity.POLICY
        found = finding(
            rule,
            path=known.project.path(function[0]),
            line=call.line,
            end_line=call.end_line,
            column=call.column,
            subject=dispatch.subject,
            severity=severity,
            chain=chain,
        )
        can_be_fixed = rule in {"AC101", "AC102"} and found.severity is Severity.ERROR
        using = _alias(known, reach, function, call) if can_be_fixed else None
        message = found.message if dispatch.waits is False else f"{found.message} {PERHAPS}"
        yield replace(found, using=using, message=message)


def _alias(known: Knowledge, reach: Reach, function: FunctionId, call: Call) -> str | None:
    """Return how the alias to wait for is written, None if one place cannot say it."""
    around = known.transactions.around(call, *function)
    if around is None:
        opened = [edge.transaction for edge in reach.chain(function) if edge.transaction]
        is_default = all(known.transactions.alias(one) == "" for one in opened)
        return "" if opened and is_default else None
    blocks = known.transactions.blocks(*function)
    every = {known.transactions.alias(blocks[one]) for one in call.blocks if one in blocks}
    alias = known.transactions.alias(around)
    return alias if every <= {alias} else None


def _judge(
    known: Knowledge,
    graph: Graph,
    reach: Reach,
    function: FunctionId,
    call: Call,
    dispatch: Dispatch,
) -> tuple[str, Severity | None, tuple[Step, ...]]:
    facts = known.project.function(*function)
    if facts.name == "__del__":
        return "AC224", None, ()
    if call.on_error:
        return "AC301", None, ()
    around = known.transactions.around(call, *function)
    found = reach.reached.get(function)
    if around is not None and (found is not None or reach.writes.inside(function, around)):
        written = names_what_is_written(known, function, call, dispatch, around)
        lowered = None if written else Severity.WARNING
        return "AC101", lowered, (_opening(known, function, around),)
    if found is not None:
        rule, lowered, chain = _reached(known, graph, reach, function, call)
        asks = rule in UNDER_REQUESTS and names_only_what_is_read(
            known, reach, function, dispatch
        )
        return ("AC301", None, ()) if asks else (rule, lowered, chain)
    unsure = known.environment.may_be_atomic and function not in reach.calm
    if unsure and about_a_written_row(known, function, dispatch):
        return "AC210", None, ()
    return "AC301", None, ()


def _reached(
    known: Knowledge, graph: Graph, reach: Reach, function: FunctionId, call: Call
) -> tuple[str, Severity | None, tuple[Step, ...]]:
    found = reach.reached[function]
    chain = reach.chain(function)
    if found.sure is Sure.SHOWN:
        possible = possible_chain(known, graph, reach, function, call)
        if possible is None:
            return _entered_elsewhere(known, reach, chain)
        return "AC102", None, tuple(_steps(known, possible))
    steps = tuple(_steps(known, chain))
    if found.sure is Sure.GUESSED:
        return "AC209", None, steps
    origin = chain[0].caller if chain else function
    entry = reach.reached[origin].entry if origin in reach.reached else found.entry
    entry = entry or found.entry
    first = known.project.function(*origin)
    start = Step(known.project.path(origin[0]), first.line, entry.reason if entry else "")
    return entry.rule if entry else "AC209", None, (start, *steps)


def _entered_elsewhere(
    known: Knowledge, reach: Reach, chain: list[Edge]
) -> tuple[str, Severity | None, tuple[Step, ...]]:
    """Judge a dispatch of a receiver that the save in the transaction does not reach."""
    number = max(n for n, edge in enumerate(chain) if edge.via)
    receiver = chain[number].callee
    entry = reach.entry(receiver)
    if entry is None:
        return "AC301", None, ()
    path, line = known.project.path(receiver[0]), known.project.function(*receiver).line
    steps = tuple(_steps(known, chain[number + 1 :]))
    return entry.rule, None, (Step(path, line, entry.reason), *steps)


def _opening(known: Knowledge, function: FunctionId, transaction: Transaction) -> Step:
    return Step(
        known.project.path(function[0]), transaction.line, "the transaction is opened here"
    )


def _steps(known: Knowledge, chain: list[Edge]) -> Iterator[Step]:
    for number, edge in enumerate(chain):
        path = known.project.path(edge.caller[0])
        if number == 0 and edge.transaction is not None:
            yield _opening(known, edge.caller, edge.transaction)
        through = f" through {edge.via}" if edge.via else ""
        name = known.project.function(*edge.callee).name
        yield Step(path, edge.call.line, f"{name}() is called{through}")
