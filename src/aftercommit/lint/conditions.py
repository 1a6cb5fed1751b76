"""What an ``if`` says of the arguments of ``post_save``: ``created`` and ``update_fields``.

A condition is a set of words: ``created``, or ``!created`` where it must be false.
"""

import ast

SAID = {"created", "update_fields"}
NOTHING: frozenset[str] = frozenset()
Both = tuple[frozenset[str], frozenset[str]]  # where the test holds, and where it does not


def said_by(test: ast.expr) -> Both:
    """Return what holds where a test is true, and where it is false."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        holds, fails = said_by(test.operand)
        return fails, holds
    if isinstance(test, ast.BoolOp):
        every = [said_by(one) for one in test.values]
        if isinstance(test.op, ast.And):
            return NOTHING.union(*(holds for holds, _ in every)), NOTHING
        return NOTHING, NOTHING.union(*(fails for _, fails in every))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _of_comparison(test)
    name = _name(test)
    return (frozenset({name}), frozenset({f"!{name}"})) if name else (NOTHING, NOTHING)


def leaves(body: list[ast.stmt]) -> bool:
    """Say whether statements end their function or the round of their loop."""
    return bool(body) and isinstance(body[-1], (ast.Return, ast.Raise, ast.Continue, ast.Break))


def contradict(one: frozenset[str], other: frozenset[str]) -> bool:
    """Say whether two conditions cannot hold together."""
    return any(f"!{word}" in other for word in one) or any(f"!{word}" in one for word in other)


def _of_comparison(test: ast.Compare) -> Both:
    right, operator = test.comparators[0], test.ops[0]
    is_none = isinstance(right, ast.Constant) and right.value is None
    if isinstance(operator, (ast.Is, ast.IsNot)) and is_none:
        name = _name(test.left)
        both = (frozenset({name}), frozenset({f"!{name}"})) if name else (NOTHING, NOTHING)
        return both if isinstance(operator, ast.IsNot) else both[::-1]
    if isinstance(operator, (ast.In, ast.NotIn)) and _name(right):
        found = frozenset({_name(right)})
        return (found, NOTHING) if isinstance(operator, ast.In) else (NOTHING, found)
    return NOTHING, NOTHING


def _name(node: ast.expr) -> str:
    """Return ``created`` of ``created``, ``kwargs["created"]`` and ``kwargs.get("created")``."""
    found: object = ""
    if isinstance(node, ast.Name):
        found = node.id
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        found = node.slice.value
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        first = node.args[0] if node.args and node.func.attr == "get" else None
        found = first.value if isinstance(first, ast.Constant) else ""
    return found if isinstance(found, str) and found in SAID else ""
