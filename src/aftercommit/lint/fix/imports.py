"""Imports are added where isort and Ruff would have them: by kind, then by name."""

import sys
from collections.abc import Sequence

import libcst as cst

FUTURE, STANDARD, THIRD, RELATIVE = range(4)
Statement = cst.SimpleStatementLine | cst.BaseCompoundStatement
Key = tuple[int, bool, str]  # kind, whether it is one of names, module


def with_import(tree: cst.Module, module: str, name: str) -> cst.Module:
    """Return a file with ``from module import name`` among its first imports.

    A line that imports from the module gets one name more. What imports the project's own
    packages cannot be told from other packages: the line stands beside what else comes from
    its package, or else by its name.
    """
    body = list(tree.body)
    first = 0 if tree.get_docstring() is None else 1
    last = next((n for n in range(first, len(body)) if _import(body[n]) is None), len(body))
    for number in range(first, last):
        widened = _widened(body[number], module, name)
        if widened is not None:
            return tree.with_changes(body=[*body[:number], widened, *body[number + 1 :]])
    own = _kind(module), True, module
    place = _place([_key(one) for one in body[first:last]], own) + first
    line = cst.parse_statement(f"from {module} import {name}", config=tree.config_for_parsing)
    return tree.with_changes(body=_inserted(body[:place], line, body[place:], own[0]))


def _import(statement: Statement) -> cst.Import | cst.ImportFrom | None:
    one = (
        statement.body.body[0] if isinstance(statement.body, cst.BaseSuite) else statement.body[0]
    )
    is_line = isinstance(statement, cst.SimpleStatementLine)
    return one if is_line and isinstance(one, (cst.Import, cst.ImportFrom)) else None


def _key(statement: Statement) -> Key:
    one = _import(statement)
    if isinstance(one, cst.Import):
        module = _text(one.names[0].name)
        return _kind(module), False, module
    if one is None or one.relative or one.module is None:
        return RELATIVE, True, ""
    module = _text(one.module)
    return _kind(module), True, module


def _kind(module: str) -> int:
    package = _package(module)
    if package == "__future__":
        return FUTURE
    return STANDARD if package in sys.stdlib_module_names else THIRD


def _package(module: str) -> str:
    return module.partition(".")[0]


def _text(node: cst.CSTNode) -> str:
    return cst.Module(body=[]).code_for_node(node)


def _place(imports: Sequence[Key], own: Key) -> int:
    """Return before which import a line belongs, also where the file has another order."""
    package = _package(own[2])
    near = [n for n, one in enumerate(imports) if _package(one[2]) == package]
    if not near and own[0] == STANDARD:
        near = [n for n, one in enumerate(imports) if one[0] == STANDARD]
    if near:
        return next((n for n in near if imports[n] > own), near[-1] + 1)
    return next((n for n, one in enumerate(imports) if one > own), len(imports))


def _inserted(
    before: list[Statement], line: Statement, after: list[Statement], kind: int
) -> list[Statement]:
    """Put a line between statements, with an empty line where its kind begins and ends."""
    goes_on = bool(before) and _kind_of(before[-1]) == kind
    if not after:
        return [*before, _led(line, [cst.EmptyLine()] if before and not goes_on else [])]
    blank, comments = _leading(after[0])
    if _kind_of(after[0]) == kind:
        if goes_on:
            return [*before, line, *after]
        return [*before, _led(line, blank), _led(after[0], comments), *after[1:]]
    if before and not goes_on:
        line = _led(line, [cst.EmptyLine(indent=False)])
    below = [*(blank or [cst.EmptyLine(indent=False)]), *comments]
    return [*before, line, _led(after[0], below), *after[1:]]


def _kind_of(statement: Statement) -> int | None:
    return None if _import(statement) is None else _key(statement)[0]


def _led(statement: Statement, lines: Sequence[cst.EmptyLine]) -> Statement:
    return statement.with_changes(leading_lines=lines)


def _leading(statement: Statement) -> tuple[list[cst.EmptyLine], list[cst.EmptyLine]]:
    """Return the empty lines before a statement, and the comments that follow them."""
    lines = list(getattr(statement, "leading_lines", ()))
    end = next((n for n, one in enumerate(lines) if one.comment is not None), len(lines))
    return lines[:end], lines[end:]


def _widened(statement: Statement, module: str, name: str) -> Statement | None:
    """Return ``from module import a, name, z``, None for another statement.

    A list with comments is left alone: it could not be said to which name they belong.
    """
    one = _import(statement)
    if not isinstance(one, cst.ImportFrom) or isinstance(one.names, cst.ImportStar):
        return None
    if _key(statement)[2] != module or "#" in _text(one):
        return None
    names = list(one.names)
    between = names[0].comma if len(names) > 1 else cst.MaybeSentinel.DEFAULT
    commas = [*(between for _ in names), names[-1].comma]
    place = next((n for n, known in enumerate(names) if _text(known.name) > name), len(names))
    names.insert(place, cst.ImportAlias(cst.Name(name)))
    changed = [known.with_changes(comma=c) for known, c in zip(names, commas, strict=True)]
    return statement.with_deep_changes(one, names=changed)
