"""What the arguments of a dispatch have to do with what the transaction writes."""

from collections.abc import Iterator

from aftercommit.lint.dispatchers import Dispatch
from aftercommit.lint.expressions import dotted, names_in
from aftercommit.lint.facts import Call, Expr, Function
from aftercommit.lint.graph import Knowledge
from aftercommit.lint.transactions import Transaction
from aftercommit.lint.values import FunctionId

WRITES = {
    "abulk_create", "acreate", "add", "adelete", "asave", "aupdate", "bulk_create", "bulk_update",
    "create", "create_user", "delete", "get_or_create", "remove", "save", "set", "update",
    "update_or_create",
}  # fmt: skip
ROW_KEYS = {"id", "pk", "uuid"}


def names_what_is_written(
    known: Knowledge, function: FunctionId, call: Call, dispatch: Dispatch, around: Transaction
) -> bool:
    """Say whether a dispatch in a transaction of its own function is about what that writes.

    Where nothing can be seen to be written, every name that the transaction uses counts.
    """
    facts = known.project.function(*function)
    told = _argument_names(dispatch) | (names_in(call.callee) & set(_sources(facts)))
    if not told:
        return False
    inside = [one for one in facts.calls if _in_same(one, call, known, function, around)]
    writes = [one for one in inside if _is_write(one)]
    if not writes:
        return bool(told & _used(facts, inside, call))
    return bool(_with_sources(facts, told) & _with_sources(facts, _written(facts, writes)))


def about_a_written_row(known: Knowledge, function: FunctionId, dispatch: Dispatch) -> bool:
    """Say whether a dispatch gets the key of a row that its function has just made.

    One that was there before is found by the task in any case, if only as it was.
    """
    facts = known.project.function(*function)
    keys = {name for expr in dispatch.arguments for name in _rows_of(expr)}
    if not keys:
        return False
    return bool(keys & _rows_made(facts))


def _sources(facts: Function) -> Iterator[str]:
    """Yield local names that may hold a signature: ``work`` of ``work.apply_async()``."""
    yield from (one.target for one in facts.assigns if one.value[:1] != ("local",))


def _argument_names(dispatch: Dispatch) -> set[str]:
    return {name for expr in dispatch.arguments for name in names_in(expr)}


def _in_same(
    one: Call, call: Call, known: Knowledge, function: FunctionId, around: Transaction
) -> bool:
    if one.line == call.line and one.column == call.column:
        return False
    blocks = known.transactions.blocks(*function)
    if around in blocks.values():
        return any(blocks.get(number) == around for number in one.blocks)
    return True


def _is_write(call: Call) -> bool:
    return bool(call.callee) and call.callee[0] == "attr" and call.callee[2] in WRITES


def _written(facts: Function, writes: list[Call]) -> set[str]:
    found: set[str] = set()
    for one in writes:
        found |= names_in(one.callee[1])
        for expr in (*one.args, *(value for _, value in one.keywords)):
            found |= names_in(expr)
    lines = {one.line for one in writes}
    found |= {one.target.split(".")[0] for one in facts.assigns if one.line in lines}
    return found


def _used(facts: Function, calls: list[Call], dispatch: Call) -> set[str]:
    found: set[str] = set()
    for one in calls:
        found |= names_in(one.callee)
        for expr in (*one.args, *(value for _, value in one.keywords)):
            found |= names_in(expr)
    found |= {one.target for one in facts.assigns if one.blocks[:1] == dispatch.blocks[:1]}
    return found


def _with_sources(facts: Function, names: set[str]) -> set[str]:
    """Add the names that the given names are made of."""
    found, left = set(names), set(names)
    for _ in range(3):
        more: set[str] = set()
        for one in facts.assigns:
            if one.target in left:
                more |= names_in(one.value)
        left = more - found
        found |= left
    return found


def _rows_of(expr: Expr) -> set[str]:
    """Return ``order`` of ``order.pk``, ``str(order.id)``, ``[order.pk]``."""
    if not expr:
        return set()
    if expr[0] == "attr" and expr[2] in ROW_KEYS and expr[1] and expr[1][0] == "name":
        return {expr[1][1]}
    if expr[0] == "call":
        return {name for arg in expr[2] for name in _rows_of(arg)}
    if expr[0] in {"mix", "any"}:
        return {name for part in expr[1:] for name in _rows_of(part)}
    return set()


def _rows_made(facts: Function) -> set[str]:
    return {one.target for one in facts.assigns if _makes_a_row(one.value)}


def _makes_a_row(value: Expr) -> bool:
    """Say whether a value is a row that is new: what has a key was saved since."""
    if value[:1] == ("item",):  # order, created = Order.objects.get_or_create()
        value = value[1]
    if value[:1] != ("call",):
        return False
    callee = value[1]
    if callee[:1] == ("attr",) and callee[2] in WRITES:
        return True
    name = dotted(callee).rsplit(".", 1)[-1]
    return name[:1].isupper() and not name.isupper()
