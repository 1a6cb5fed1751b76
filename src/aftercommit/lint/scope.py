"""What is gathered of a function while it is walked."""

import ast

from aftercommit.lint.conditions import NOTHING
from aftercommit.lint.facts import UNKNOWN, Assign, Block, Call, Expr


class Scope:
    """A function that is being walked: what its ``Function`` will hold."""

    __slots__ = (
        "assigns", "blocks", "calls", "catches", "given", "handling", "imports", "loops",
        "on_error", "open", "returned", "yields",
    )  # fmt: skip

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.assigns: list[Assign] = []
        self.blocks: list[Block] = []
        self.imports: list[tuple[str, str]] = []
        self.returned: list[Expr] = []
        self.yields: list[tuple[int, ...]] = []
        self.catches: list[tuple[Expr, tuple[int, ...], int, int]] = []
        # Where the walk stands:
        self.open: tuple[int, ...] = ()
        self.loops: tuple[ast.AST, ...] = ()
        self.on_error = False
        self.handling: Expr = UNKNOWN
        self.given: frozenset[str] = NOTHING


def set_in(loop: ast.AST) -> list[str]:
    """Return the names that a loop sets."""
    nodes: list[ast.AST] = [loop.target] if isinstance(loop, ast.comprehension) else [loop]
    found = []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.append(node.id)
        elif not isinstance(node, (ast.Lambda, ast.FunctionDef, ast.ClassDef)):
            nodes += ast.iter_child_nodes(node)
    return found
