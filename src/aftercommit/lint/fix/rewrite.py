"""One file with findings becomes one without them."""

from collections.abc import Sequence

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from aftercommit.lint.findings import Finding
from aftercommit.lint.fix.imports import with_import
from aftercommit.lint.fix.names import Names, names_of

Place = tuple[int, int]


def rewrite(content: bytes, findings: Sequence[Finding]) -> tuple[bytes, int]:
    """Return a file without the faults of some findings, and how many were mended."""
    try:
        tree = cst.parse_module(content)
    except (cst.ParserSyntaxError, UnicodeDecodeError, LookupError):
        return content, 0
    names = names_of(tree)
    if names is None:
        return content, 0
    lines = tree.code.splitlines()
    wanted = {(found.line, _column(lines, found)): found for found in findings}
    change = _Change(wanted, names)
    changed = MetadataWrapper(tree, unsafe_skip_copy=True).visit(change)
    if not change.done:
        return content, 0
    return _with_imports(changed, change, names).bytes, change.done


def _column(lines: Sequence[str], found: Finding) -> int:
    """Return a column in characters; Python's own tree counts bytes."""
    line = lines[found.line - 1] if found.line <= len(lines) else ""
    return len(line.encode()[: found.column].decode(errors="replace"))


def _with_imports(tree: cst.Module, change: "_Change", names: Names) -> cst.Module:
    if change.used_transaction and not names.has_transaction:
        tree = with_import(tree, "django.db", "transaction")
    if change.used_partial and not names.has_partial:
        tree = with_import(tree, "functools", "partial")
    return tree


class _Change(cst.CSTTransformer):
    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(self, wanted: dict[Place, Finding], names: Names) -> None:
        super().__init__()
        self.done = 0
        self.used_transaction = False
        self.used_partial = False
        self._wanted = wanted
        self._names = names

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.Expr:
        """Change calls that are statements: nobody uses what they return."""
        call = updated_node.value
        found = self._found(original_node.value)
        if found is None or not isinstance(call, cst.Call):
            return updated_node
        new = self._changed(call, found)
        if new is None:
            return updated_node
        self.done += 1
        return updated_node.with_changes(value=new)

    def _found(self, node: cst.BaseExpression) -> Finding | None:
        start = self.get_metadata(PositionProvider, node).start
        return self._wanted.get((start.line, start.column))

    def _changed(self, call: cst.Call, found: Finding) -> cst.Call | None:
        if found.rule in {"AC101", "AC102"}:
            self.used_transaction = True
            return self._deferred(call, found.using or "")
        if found.rule == "AC111":
            kept = [
                arg for arg in call.args if not (arg.keyword and arg.keyword.value == "using")
            ]
            return _with_using(call.with_changes(args=kept[:1]), found.using or '"default"')
        return self._bound(call)

    def _deferred(self, call: cst.Call, using: str) -> cst.Call:
        callback = self._partial(call) if call.args else call.func
        on_commit = cst.parse_expression(f"{self._names.transaction}.on_commit")
        made = cst.Call(on_commit, [cst.Arg(callback)])
        return _with_using(made, using) if using else made

    def _partial(self, call: cst.Call) -> cst.Call:
        """Put what is called before its arguments, on a line of its own if they have some."""
        self.used_partial = True
        between = call.whitespace_before_args
        if isinstance(between, cst.SimpleWhitespace):
            between = cst.SimpleWhitespace(" ")
        first = cst.Arg(call.func, comma=cst.Comma(whitespace_after=between))
        return call.with_changes(
            func=cst.parse_expression(self._names.partial), args=[first, *call.args]
        )

    def _bound(self, call: cst.Call) -> cst.Call | None:
        """Turn ``lambda: task.delay(order.pk)`` into a partial, which reads its names now."""
        callback = call.args[0].value if call.args else None
        if not isinstance(callback, cst.Lambda) or callback.params.params:
            return None
        if not isinstance(callback.body, cst.Call):
            return None
        first = call.args[0].with_changes(value=self._partial(callback.body))
        return call.with_changes(args=[first, *call.args[1:]])


def _with_using(call: cst.Call, using: str) -> cst.Call:
    *others, last = call.args
    comma = cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    equal = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))
    word = cst.Arg(cst.parse_expression(using), keyword=cst.Name("using"), equal=equal)
    return call.with_changes(args=[*others, last.with_changes(comma=comma), word])
