"""Expressions of Python's syntax tree become ``Expr`` descriptions."""

import ast
from collections.abc import Callable

from aftercommit.lint.facts import UNKNOWN, Expr

DEEPEST = 6  # levels of an expression that are described
LONGEST = 60  # characters of a string that are kept
MOST_ITEMS = 40


def describe(node: ast.AST | None, lambdas: dict[int, int], depth: int = 0) -> Expr:
    """Return what is known of an expression; ``lambdas``: number of the function by node."""
    if node is None or depth > DEEPEST:
        return UNKNOWN
    kind = type(node)
    if kind is ast.Name:
        return ("name", node.id)  # type: ignore[attr-defined]
    if kind is ast.Attribute:
        base = describe(node.value, lambdas, depth + 1)  # type: ignore[attr-defined]
        return ("attr", base, node.attr)  # type: ignore[attr-defined]
    found: Callable[..., Expr] | None = _COMPOUND.get(kind)
    return found(node, lambdas, depth + 1) if found else _mixed(node, lambdas, depth + 1)


def names_in(expr: Expr) -> set[str]:
    """Return the names that an expression begins with: ``user`` of ``str(user.pk)``."""
    if not expr:
        return set()
    if expr[0] == "name":
        return {expr[1]}
    if expr[0] in {"const", "lambda"}:
        return set()
    found: set[str] = set()
    for part in expr[1:]:
        if isinstance(part, tuple):
            found |= names_in(part) if part and isinstance(part[0], str) else _names(part)
    return found


def _names(parts: tuple[object, ...]) -> set[str]:
    found: set[str] = set()
    for part in parts:
        if isinstance(part, tuple):
            found |= names_in(part) if part and isinstance(part[0], str) else _names(part)
    return found


def dotted(expr: Expr) -> str:
    """Return ``a.b.c`` for names and attributes, with ``()`` for calls; "" for all else."""
    if not expr:
        return ""
    if expr[0] == "name":
        return str(expr[1])
    if expr[0] == "attr":
        base = dotted(expr[1])
        return f"{base}.{expr[2]}" if base else ""
    if expr[0] == "call":
        base = dotted(expr[1])
        return f"{base}()" if base else ""
    if expr[0] == "item":
        return dotted(expr[1])
    return ""


def _call(node: ast.Call, lambdas: dict[int, int], depth: int) -> Expr:
    keywords = tuple(
        (word.arg or "**", describe(word.value, lambdas, depth)) for word in node.keywords
    )
    args = tuple(describe(arg, lambdas, depth) for arg in node.args[:MOST_ITEMS])
    return ("call", describe(node.func, lambdas, depth), args, keywords)


def _constant(node: ast.Constant, lambdas: dict[int, int], depth: int) -> Expr:
    value = node.value
    if isinstance(value, str):
        return ("const", value[:LONGEST])
    small = value is None or isinstance(value, (bool, float))
    if small or (isinstance(value, int) and abs(value) < 2**31):
        return ("const", value)
    return ("const", "")


def _lambda(node: ast.Lambda, lambdas: dict[int, int], depth: int) -> Expr:
    number = lambdas.get(id(node))
    return UNKNOWN if number is None else ("lambda", number)


def _choice(node: ast.IfExp | ast.BoolOp, lambdas: dict[int, int], depth: int) -> Expr:
    parts = [node.body, node.orelse] if isinstance(node, ast.IfExp) else node.values
    return ("any", *(describe(part, lambdas, depth) for part in parts))


def _item(node: ast.Subscript, lambdas: dict[int, int], depth: int) -> Expr:
    return ("item", describe(node.value, lambdas, depth), describe(node.slice, lambdas, depth))


def _inner(
    node: ast.Await | ast.Starred | ast.NamedExpr, lambdas: dict[int, int], depth: int
) -> Expr:
    return describe(node.value, lambdas, depth)


def _union(node: ast.BinOp, lambdas: dict[int, int], depth: int) -> Expr:
    if isinstance(node.op, ast.Mult) and (product := _product(node)) is not None:
        return ("const", product)
    kind = "any" if isinstance(node.op, ast.BitOr) else "mix"  # X | None of an annotation
    left, right = describe(node.left, lambdas, depth), describe(node.right, lambdas, depth)
    return (kind, left, right)


def _product(node: ast.expr) -> int | None:
    """Return the value of ``5 * 60``, None for all else."""
    if isinstance(node, ast.Constant):
        return node.value if type(node.value) is int and 0 <= node.value < 2**16 else None
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
        return None
    left, right = _product(node.left), _product(node.right)
    return None if left is None or right is None or left * right >= 2**31 else left * right


def _many(node: ast.Tuple | ast.List | ast.Set, lambdas: dict[int, int], depth: int) -> Expr:
    return ("mix", *(describe(one, lambdas, depth) for one in node.elts[:MOST_ITEMS]))


def _comprehension(
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp, lambdas: dict[int, int], depth: int
) -> Expr:
    sources = (describe(one.iter, lambdas, depth) for one in node.generators)
    return ("mix", describe(node.elt, lambdas, depth), *sources)


def _mixed(node: ast.AST, lambdas: dict[int, int], depth: int) -> Expr:
    parts = []
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            part = describe(child, lambdas, depth)
            if part and part[0] != "const":
                parts.append(part)
    return ("mix", *parts) if parts else UNKNOWN


_COMPOUND: dict[type, Callable[..., Expr]] = {
    ast.Call: _call,
    ast.Constant: _constant,
    ast.Lambda: _lambda,
    ast.IfExp: _choice,
    ast.BoolOp: _choice,
    ast.Subscript: _item,
    ast.Await: _inner,
    ast.Starred: _inner,
    ast.NamedExpr: _inner,
    ast.BinOp: _union,
    ast.Tuple: _many,
    ast.List: _many,
    ast.Set: _many,
    ast.ListComp: _comprehension,
    ast.SetComp: _comprehension,
    ast.GeneratorExp: _comprehension,
}


def annotation(node: ast.expr | None, lambdas: dict[int, int]) -> Expr:
    """Return the description of an annotation, which may be a string."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        try:
            node = ast.parse(node.value.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return UNKNOWN
    return describe(node, lambdas)
