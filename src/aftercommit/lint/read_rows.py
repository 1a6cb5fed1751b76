"""Dispatches in a request that tell their task of nothing that the request writes.

``export.delay(request.user.pk, form.cleaned_data["format"])`` in a view that also marks a
message as read: the task finds the same before and after the commit.
"""

from collections.abc import Iterator

from aftercommit.lint.dispatchers import Dispatch
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr, Function
from aftercommit.lint.graph import Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.values import FunctionId

OBJECTS = {"cls", "request", "self"}  # what hangs on them is told apart: request.user
BROUGHT = {"self.args", "self.kwargs"}  # by the request
NEW_ROWS = {"acreate", "bulk_create", "create"}
ROUNDS = 4  # of looking up what a name is made of
METHODS = {
    "create", "delete", "destroy", "dispatch", "get", "list", "partial_update", "patch", "post",
    "put", "retrieve", "update",
}  # fmt: skip


def names_only_what_is_read(
    known: Knowledge, reach: Reach, function: FunctionId, dispatch: Dispatch
) -> bool:
    """Say whether what a task is told comes with the request or is read, and not written.

    False where that is not certain: without arguments, about attributes of ``self``, in a local
    function, about parameters of a function that the view calls, and where something is written
    of which no name tells what it is.
    """
    facts = known.project.function(*function)
    told = _with_sources(facts, {name for one in dispatch.arguments for name in subjects(one)})
    if not told or facts.parent >= 0 or any(_hides(name) for name in told):
        return False
    parameters = {name for name, _ in facts.params} - OBJECTS
    if told & parameters and not (reach.reached[function].edge is None and _is_view(facts)):
        return False
    writes = [one for one in facts.calls if reach.writes.by_call(function, one)]
    if any(_is_secret(one) for one in writes):
        return False
    written = _written(facts, writes)
    of_request = {name for name in told if name.startswith("request.")}
    return not told & written and not ("request" in written and of_request)


def subjects(expr: Expr) -> set[str]:
    """Return the names that an expression is about: ``order`` of ``str(order.pk)``.

    Of ``request.user.pk``, also through ``self``, it is ``request.user``.
    """
    if not expr or expr[0] in {"const", "lambda"}:
        return set()
    if expr[0] == "name":
        return {expr[1]}
    if expr[0] == "attr":
        text = dotted(expr)
        parts = text.removeprefix("self.request.").split(".")
        if text.startswith("self.request."):
            return {f"request.{parts[0]}"}
        return {".".join(parts[:2])} if parts[0] in OBJECTS else subjects(expr[1])
    if expr[0] == "call":
        of_method = subjects(expr[1]) if expr[1][:1] == ("attr",) else set()
        return of_method | _of_parts(expr[2:])
    return _of_parts(expr[1:])


def _of_parts(parts: tuple[object, ...]) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, tuple) and part:
            found |= subjects(part) if isinstance(part[0], str) else _of_parts(part)
    return found


def _of_call(call: Call) -> set[str]:
    return subjects(("call", call.callee, call.args, call.keywords))


def _is_view(facts: Function) -> bool:
    """Say whether the parameters of a function come from the address of the request."""
    return facts.owner < 0 or facts.name in METHODS or bool(facts.decorators)


def _hides(name: str) -> bool:
    """Say whether a name is an attribute that other methods may have set."""
    return name.startswith(("cls.", "self.")) and name not in BROUGHT and "()" not in name


def _with_sources(facts: Function, names: set[str]) -> set[str]:
    found, left = set(names), set(names)
    for _ in range(ROUNDS):
        made_of = {
            name for one in facts.assigns if one.target in left for name in subjects(one.value)
        }
        left = made_of - found
        found |= left
    return found


def _is_secret(call: Call) -> bool:
    """Say whether a call writes something that no name in it is about."""
    about = {
        name
        for name in _of_call(call)
        if not name.startswith(("cls.", "self.")) and not name[0].isupper()
    }
    if call.callee[:1] != ("attr",) or call.callee[2] in {"execute", "executemany"}:
        return not about or call.callee[:1] == ("attr",)
    return not about and call.callee[2] not in NEW_ROWS


def _written(facts: Function, writes: list[Call]) -> set[str]:
    """Return what writing calls are made on, are given and return, and what that is made of."""
    given = {name for one in writes for name in _of_call(one)}
    lines, callees = {one.line for one in writes}, {one.callee for one in writes}
    returned = {
        part
        for one in facts.assigns
        if one.line in lines or callees & set(_called(one.value))
        for part in (one.target, one.target.split(".")[0])
    }
    made_of = {name for name in _with_sources(facts, given) if not name.startswith("request")}
    return given | returned | made_of


def _called(expr: tuple[object, ...]) -> Iterator[Expr]:
    """Yield the callees of all calls in an expression."""
    if expr[:1] == ("call",):
        yield expr[1]  # type: ignore[misc]
    for part in expr:
        if isinstance(part, tuple):
            yield from _called(part)
