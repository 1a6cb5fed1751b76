"""Which dispatches of a receiver of ``post_save`` the call that saves the row can reach.

``Order.objects.create()`` reaches no dispatch below ``if not created`` or ``if update_fields``.
"""

from aftercommit.lint.conditions import NOTHING, contradict
from aftercommit.lint.facts import Call, Function
from aftercommit.lint.graph import Edge, Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId

CREATES = {"acreate", "aget_or_create", "create", "get_or_create"}
SAVES = {"asave", "save"}


def possible_chain(
    known: Knowledge, graph: Graph, reach: Reach, function: FunctionId, call: Call
) -> list[Edge] | None:
    """Return calls from a transaction to a dispatch that no condition in a receiver forbids.

    None if there are none: then the transaction that was found is not the dispatch's.
    """
    chain = reach.chain(function)
    signals = [number for number, edge in enumerate(chain) if edge.via]
    if not signals:
        return chain
    last = signals[-1]
    further = chain[last + 1 :]
    given = (further[0].call if further else call).given
    if _fits(known, chain[last], given):
        return chain
    for edge in graph.into[chain[last].callee]:
        if edge.via and edge.certain and _fits(known, edge, given) and reach.is_inside(edge):
            before = [] if edge.transaction is not None else reach.chain(edge.caller)
            return [*before, edge, *further]
    return None


def _fits(known: Knowledge, edge: Edge, given: tuple[str, ...]) -> bool:
    return not contradict(
        _said_by(edge.call, known.project.function(*edge.caller)), frozenset(given)
    )


def _said_by(call: Call, caller: Function) -> frozenset[str]:
    """Return what a call that saves a row says of ``created`` and ``update_fields``."""
    name = call.callee[2] if call.callee[:1] == ("attr",) else ""
    if name in CREATES:
        return frozenset({"created", "!update_fields"})
    if name not in SAVES:
        return NOTHING
    words = dict(call.keywords)
    # ``created = not self.pk`` of a save() means what the receiver will be told.
    found = {one for one in call.given if caller.name in SAVES and one.endswith("created")}
    if words.get("update_fields", ("",))[0] == "mix":
        found.add("update_fields")
    elif "update_fields" not in words and "**" not in words and not call.args:
        found.add("!update_fields")
    if words.get("force_insert") == ("const", True) or _is_made(call, caller):
        found.add("created")
    return frozenset(found)


def _is_made(call: Call, caller: Function) -> bool:
    """Say whether a row that is saved is a new instance: ``order = Order(); order.save()``."""
    row = call.callee[1]
    if row[:1] != ("name",):
        return False
    set_to = [one.value for one in caller.assigns if one.target == row[1]]
    return bool(set_to) and all(
        value[:1] == ("call",)
        and value[1][:1] in {("name",), ("attr",)}
        and (value[1][-1] == "cls" or str(value[1][-1])[:1].isupper())
        for value in set_to
    )
