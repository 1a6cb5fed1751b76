"""Which functions run inside a transaction, how sure that is, and by which calls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from aftercommit.lint.entries import Entry
from aftercommit.lint.graph import Edge, Graph, Knowledge
from aftercommit.lint.values import FunctionId
from aftercommit.lint.writes import Writes

UNDER_REQUESTS = {"AC206", "AC207"}


class Sure(IntEnum):
    """How sure it is that a transaction is open; lower is surer."""

    SHOWN = 0  # an atomic block, and calls that are resolved
    ENTRY = 1  # Django calls it in a transaction
    GUESSED = 2  # at least one call is known by its name only


@dataclass(frozen=True, slots=True)
class Reached:
    """A function that runs inside a transaction, and the call that brings it there."""

    sure: Sure
    edge: Edge | None  # None where Django enters
    entry: Entry | None


class Reach:
    """Follows transactions along the calls."""

    def __init__(self, known: Knowledge, graph: Graph) -> None:
        self._known = known
        self._graph = graph
        self.writes = Writes(known, graph)
        self.reached: dict[FunctionId, Reached] = {}
        self.calm: set[FunctionId] = set()  # surely entered in autocommit
        self.waiting: set[FunctionId] = set()  # run by on_commit callbacks only
        self._follow()
        self.waiting = self._only_from({one for one in graph.deferred if one not in graph.into})
        self.calm = self._only_from(self._outside())

    def chain(self, function: FunctionId) -> list[Edge]:
        """Return the calls from the transaction to a function, the outermost first."""
        edges: list[Edge] = []
        seen = set()
        found = self.reached.get(function)
        while found is not None and found.edge is not None and function not in seen:
            seen.add(function)
            edges.append(found.edge)
            if found.edge.transaction is not None and found.sure is not Sure.ENTRY:
                break
            function = found.edge.caller
            found = self.reached.get(function)
        return edges[::-1]

    def origin(self, function: FunctionId) -> Reached | None:
        """Return how the first function of the chain was reached."""
        seen = set()
        found = self.reached.get(function)
        while found is not None and found.edge is not None and function not in seen:
            seen.add(function)
            if found.entry is None and found.edge.transaction is not None:
                break
            function = found.edge.caller
            found = self.reached.get(function, found)
        return found

    def is_inside(self, edge: Edge) -> bool:
        """Say whether a call is surely made in a transaction."""
        found = self.reached.get(edge.caller)
        return self._starts_inside(edge) or (found is not None and found.sure is Sure.SHOWN)

    def entry(self, function: FunctionId) -> Entry | None:
        """Return why a function is entered inside a transaction that may write something."""
        entry = self._known.entries.entry(*function)
        if entry is None:
            return None
        if entry.rule in UNDER_REQUESTS:
            is_task = function in self._graph.tasks
            return entry if self.writes.request(function) and not is_task else None
        if entry.rule == "AC203" and not self._may_be_sent_inside(function):
            return None
        return entry

    def _follow(self) -> None:
        starts = [edge for edges in self._graph.into.values() for edge in edges]
        inside = [edge for edge in starts if self._starts_inside(edge)]
        self._spread(Sure.SHOWN, [e for e in inside if e.certain and not e.call.on_error])
        self._enter()
        self._spread(Sure.GUESSED, [e for e in inside if not e.call.on_error])
        loose = [e for e in starts if not e.certain and self._is_shown(e.caller)]
        self._spread(Sure.GUESSED, [e for e in loose if not e.call.on_error])

    def _is_shown(self, caller: FunctionId) -> bool:
        """Say whether a function surely runs in a transaction: one guess is enough."""
        found = self.reached.get(caller)
        return found is not None and found.sure is not Sure.ENTRY

    def _starts_inside(self, edge: Edge) -> bool:
        transaction = edge.transaction
        return transaction is not None and self.writes.inside(edge.caller, transaction)

    def _spread(self, sure: Sure, edges: list[Edge], entry: Entry | None = None) -> None:
        queue = deque(edges)
        while queue:
            edge = queue.popleft()
            if edge.callee in self.reached:
                continue
            if self._known.entries.is_outside(*edge.callee) and not self._is_task(edge.callee):
                continue
            self.reached[edge.callee] = Reached(sure, edge, entry)
            for further in self._graph.out.get(edge.callee, ()):
                if (further.certain or sure is Sure.GUESSED) and not further.call.on_error:
                    queue.append(further)

    def _is_task(self, function: FunctionId) -> bool:
        return bool(self._known.dispatchers.library(*function)[0])

    def _enter(self) -> None:
        entered: list[tuple[FunctionId, Entry]] = []
        for module, facts in enumerate(self._known.project.modules):
            for number in range(1, len(facts.functions)):
                function = module, number
                entry = self.entry(function)
                if entry is not None and function not in self.reached:
                    entered.append((function, entry))
        for function, entry in entered:
            self.reached.setdefault(function, Reached(Sure.ENTRY, None, entry))
        for function, entry in entered:
            edges = [e for e in self._graph.out.get(function, ()) if e.certain]
            self._spread(Sure.ENTRY, [e for e in edges if not e.call.on_error], entry)

    def _may_be_sent_inside(self, receiver: FunctionId) -> bool:
        """Say whether nothing shows who sends a signal: else its sender tells."""
        sent = any(edge.via for edge in self._graph.into.get(receiver, ()))
        return not sent and self._known.environment.may_be_atomic

    def _outside(self) -> set[FunctionId]:
        return self._graph.tasks | {
            (module, number)
            for module, facts in enumerate(self._known.project.modules)
            for number in range(len(facts.functions))
            if self._known.entries.is_outside(module, number)
        }

    def _only_from(self, roots: set[FunctionId]) -> set[FunctionId]:
        """Return the roots, and the functions that nothing but these calls."""
        found = set(roots)
        queue = deque(roots)
        while queue:
            for edge in self._graph.out.get(queue.popleft(), ()):
                callee = edge.callee
                if callee in found or self.entry(callee) is not None:
                    continue
                if all(one.caller in found for one in self._graph.into[callee]):
                    found.add(callee)
                    queue.append(callee)
        return found
