"""What the linter knows of one file, apart from all others.

The values are named tuples of plain values: they travel between processes and lie on the
disk as ``marshal`` writes them, which is several times faster than anything that must name
classes, and runs no code when it is read.

An ``Expr`` describes an expression as a tuple that begins with its kind:

``("name", "x")`` · ``("attr", base, "field")`` · ``("call", callee, args, keywords)`` ·
``("const", value)`` · ``("item", base, key)`` · ``("lambda", number of the function)`` ·
``("any", …)`` one of several (``a or b``, ``a if b else c``) · ``("mix", …)`` something made
of these · ``()`` unknown.
"""

from typing import Any, NamedTuple

Expr = tuple[Any, ...]
UNKNOWN: Expr = ()


class Block(NamedTuple):
    """A ``with`` item; whether it opens a transaction is for the project to say."""

    opened: Expr
    line: int
    loops: tuple[str, ...]  # variables of the loops that the block stands in


class Call(NamedTuple):
    """A call, where it stands, and in which blocks of its function."""

    callee: Expr
    args: tuple[Expr, ...]
    keywords: tuple[tuple[str, Expr], ...]
    line: int
    column: int
    end_line: int
    blocks: tuple[int, ...]  # numbers of the blocks around it, outermost first
    on_error: bool  # in an ``except`` that raises again: meant for the rollback
    loops: tuple[str, ...]  # variables of the loops around it
    handling: Expr  # what the innermost ``except`` around it catches
    given: tuple[str, ...]  # what must hold of created and update_fields: ("!created",)


class Assign(NamedTuple):
    """A name of a function, or ``self.x``, and what it is set to."""

    target: str
    value: Expr
    line: int
    blocks: tuple[int, ...]


class Function(NamedTuple):
    """A function, method or lambda, or the code of a module that stands in none."""

    name: str
    line: int
    end_line: int
    owner: int  # number of the class, -1 without
    parent: int  # number of the function around it, -1 for the module
    is_async: bool
    decorators: tuple[Expr, ...]
    params: tuple[tuple[str, Expr], ...]  # name and annotation
    returns: Expr  # the annotation
    returned: tuple[Expr, ...]
    calls: tuple[Call, ...]
    assigns: tuple[Assign, ...]
    blocks: tuple[Block, ...]
    imports: tuple[tuple[str, str], ...]
    yields_in: tuple[tuple[int, ...], ...]  # the blocks around each ``yield``
    catches: tuple[tuple[Expr, tuple[int, ...], int, int], ...]
    # what each swallowing ``except`` catches, in which blocks the ``try`` stands, its lines


class Class(NamedTuple):
    """A class, its bases as they are written, its methods and attributes."""

    name: str
    line: int
    bases: tuple[Expr, ...]
    decorators: tuple[Expr, ...]
    methods: tuple[tuple[str, int], ...]
    attributes: tuple[tuple[str, Expr], ...]
    annotations: tuple[tuple[str, Expr], ...]
    parent: int  # number of the function around it


class Module(NamedTuple):
    """A file. Function 0 is the module's own code."""

    path: str
    lines: int
    functions: tuple[Function, ...]
    classes: tuple[Class, ...]
    names: tuple[tuple[str, str, int], ...]  # top level: name, "function" or "class", number
    stars: tuple[str, ...]  # modules imported by ``from … import *``
    noqa: tuple[tuple[int, str], ...]  # line, codes ("" for all)
    recovered: bool  # not all of it could be parsed
    settings: bool  # sets DATABASES, ATOMIC_REQUESTS, TASKS, Q_CLUSTER or RQ at its top


def pack(module: Module) -> tuple[Any, ...]:
    """Return a module as ``marshal`` can write it."""
    functions = tuple(
        (
            *function[:10],
            tuple(map(tuple, function.calls)),
            tuple(map(tuple, function.assigns)),
            tuple(map(tuple, function.blocks)),
            *function[13:],
        )
        for function in module.functions
    )
    return (*module[:2], functions, tuple(map(tuple, module.classes)), *module[4:])


def unpack(packed: tuple[Any, ...]) -> Module:
    """Return what ``pack()`` was given."""
    functions = tuple(
        Function._make(
            (
                *function[:10],
                tuple(Call(*call) for call in function[10]),
                tuple(Assign(*assign) for assign in function[11]),
                tuple(Block(*block) for block in function[12]),
                *function[13:],
            )
        )
        for function in packed[2]
    )
    classes = tuple(Class(*one) for one in packed[3])
    return Module._make((*packed[:2], functions, classes, *packed[4:]))
