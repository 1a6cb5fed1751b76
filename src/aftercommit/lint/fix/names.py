"""How a file says ``transaction`` and ``partial``, and whether it may."""

from dataclasses import dataclass

import libcst as cst
import libcst.matchers as m

TRANSACTION, PARTIAL = "django.db.transaction", "functools.partial"


@dataclass(frozen=True, slots=True)
class Names:
    """What to write, and whether it is imported already."""

    transaction: str
    has_transaction: bool
    partial: str
    has_partial: bool


def names_of(tree: cst.Module) -> Names | None:
    """Return how the names are written, None if they mean something else in the file."""
    imported = _imports(tree)
    taken = _bound(tree)
    transaction = imported.get(TRANSACTION, "")
    partial = imported.get(PARTIAL, "") or _through("functools", "partial", imported)
    for name, known in (("transaction", transaction), ("partial", partial)):
        if (known or name).split(".")[0] in taken:
            return None
    return Names(
        transaction or "transaction", bool(transaction), partial or "partial", bool(partial)
    )


def _through(module: str, name: str, imported: dict[str, str]) -> str:
    return f"{imported[module]}.{name}" if module in imported else ""


def _imports(tree: cst.Module) -> dict[str, str]:
    """Return the imports at the top of a file: origin and name."""
    found: dict[str, str] = {}
    for line in tree.body:
        for one in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(one, cst.ImportFrom) and not isinstance(one.names, cst.ImportStar):
                origin = _dotted(one.module) if one.module and not one.relative else ""
                for alias in one.names:
                    found[f"{origin}.{_dotted(alias.name)}"] = _name(alias)
            elif isinstance(one, cst.Import):
                for alias in one.names:
                    found[_dotted(alias.name)] = _name(alias)
    return found


def _name(alias: cst.ImportAlias) -> str:
    return _dotted(alias.asname.name) if alias.asname else _dotted(alias.name)


def _dotted(node: cst.CSTNode) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{node.attr.value}"
    return node.value if isinstance(node, cst.Name) else ""


def _bound(tree: cst.Module) -> set[str]:
    """Return the names that anything but an import binds, anywhere in a file."""
    targets = m.findall(tree, m.AssignTarget() | m.Param() | m.AnnAssign() | m.NamedExpr())
    targets = [*targets, *m.findall(tree, m.For() | m.CompFor() | m.FunctionDef() | m.ClassDef())]
    found: set[str] = set()
    for one in targets:
        target = getattr(one, "target", None) or getattr(one, "name", None)
        if isinstance(target, cst.CSTNode):
            names = m.findall(target, m.Name()) if not isinstance(target, cst.Name) else [target]
            found |= {name.value for name in names if isinstance(name, cst.Name)}
    return found
