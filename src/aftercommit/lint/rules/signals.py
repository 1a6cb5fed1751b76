"""Signals of the project whose receivers dispatch: AC302."""

from collections import deque
from collections.abc import Iterator

from aftercommit.lint.expressions import dotted
from aftercommit.lint.findings import Finding, Step, finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield each place that sends a signal of the project, if a receiver dispatches."""
    sending = _sending(graph, reach)
    seen = set()
    for edges in graph.out.values():
        for edge in edges:
            place = edge.caller, edge.call.line, edge.call.column
            sends = dotted(edge.call.callee).rsplit(".", 1)[-1].startswith(("send", "asend"))
            if not edge.via or not sends or edge.callee not in sending or place in seen:
                continue
            if edge.caller in reach.waiting:
                continue
            seen.add(place)
            receiver = known.project.function(*edge.callee)
            path = known.project.path(edge.callee[0])
            yield finding(
                "AC302",
                path=known.project.path(edge.caller[0]),
                line=edge.call.line,
                end_line=edge.call.end_line,
                column=edge.call.column,
                subject=f"{dotted(edge.call.callee)}()",
                chain=(Step(path, receiver.line, f"{receiver.name}() receives it"),),
            )


def _sending(graph: Graph, reach: Reach) -> set[FunctionId]:
    """Return the functions that dispatch without waiting, or call one that does."""
    found = {
        function
        for function, _, dispatch in graph.dispatches
        if not dispatch.waits and function not in reach.waiting
    }
    queue = deque(found)
    while queue:
        for edge in graph.into.get(queue.popleft(), ()):
            if edge.certain and not edge.via and edge.caller not in found:
                found.add(edge.caller)
                queue.append(edge.caller)
    return found
