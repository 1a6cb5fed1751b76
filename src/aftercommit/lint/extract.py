"""The syntax tree of a file becomes its facts, in one walk."""

import ast
from collections.abc import Callable, Iterable
from typing import Any

from aftercommit.lint.conditions import leaves, said_by
from aftercommit.lint.expressions import annotation, describe
from aftercommit.lint.facts import Assign, Block, Class, Expr, Module
from aftercommit.lint.noqa import noqa
from aftercommit.lint.walking import SETTINGS, ExpressionWalk

BODIES = ("body", "orelse", "finalbody")


def extract(tree: ast.Module, *, path: str, text: str, recovered: bool = False) -> Module:
    """Return what is known of a parsed file, without statements that are nested too deeply."""
    try:
        return _Walk().module(tree, path, text, recovered)
    except RecursionError:
        body = [one for one in tree.body if _can_be_walked(one)]
        return _Walk().module(ast.Module(body, []), path, text, True)


def _can_be_walked(statement: ast.stmt) -> bool:
    try:
        _Walk().module(ast.Module([statement], []), "", "", False)
    except RecursionError:
        return False
    return True


class _Walk(ExpressionWalk):
    """Walks a module once."""

    def module(self, tree: ast.Module, path: str, text: str, recovered: bool) -> Module:
        self.functions.append(None)
        self._statements(tree.body)
        self.functions[0] = self._function_of("<module>", tree.body, self.scope)
        return Module(
            path=path,
            lines=text.count("\n") + 1,
            functions=tuple(self.functions),
            classes=tuple(self.classes),
            names=tuple(self.names),
            stars=tuple(self.stars),
            noqa=tuple(noqa(text)),
            recovered=recovered,
            settings=self.settings,
        )

    # Statements.

    def _statements(self, body: Iterable[ast.stmt]) -> None:
        given = self.scope.given
        for statement in body:
            visit = _STATEMENTS.get(type(statement))
            if visit is None:
                self._parts(statement)
            else:
                visit(self, statement)
        self.scope.given = given

    def _def(self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: int = -1) -> int:
        for one in node.decorator_list:
            self._expression(one)
        self._defaults(node.args)
        self.settings = self.settings or node.name in SETTINGS  # a property of a class
        decorators = tuple(describe(one, self.lambdas) for one in node.decorator_list)
        parent, outer = self.function, self.scope
        number = self._begin()
        self._statements(node.body)
        made = self._function_of(
            node.name,
            node.body,
            self.scope,
            owner=owner,
            parent=parent if parent else -1,
            is_async=isinstance(node, ast.AsyncFunctionDef),
            decorators=decorators,
            params=self._params(node.args),
            returns=annotation(node.returns, self.lambdas),
            line=node.lineno,
        )
        self._end(number, made, parent, outer)
        if owner < 0:
            self._named(node.name, "function", number)
        return number

    def _named(self, name: str, kind: str, number: int) -> None:
        if self.function == 0:
            self.names.append((name, kind, number))
        else:
            target = ("local", kind, number)
            self.scope.assigns.append(Assign(name, target, 0, self.scope.open))

    def _class(self, node: ast.ClassDef) -> None:
        for one in (*node.decorator_list, *node.bases):
            self._expression(one)
        number = len(self.classes)
        self.classes.append(None)  # type: ignore[arg-type]
        methods: list[tuple[str, int]] = []
        attributes: list[tuple[str, Expr]] = []
        annotations: list[tuple[str, Expr]] = []
        self._members(node.body, number, methods, attributes, annotations)
        self.classes[number] = Class(
            name=node.name,
            line=node.lineno,
            bases=tuple(describe(one, self.lambdas) for one in node.bases),
            decorators=tuple(describe(one, self.lambdas) for one in node.decorator_list),
            methods=tuple(methods),
            attributes=tuple(attributes),
            annotations=tuple(annotations),
            parent=self.function if self.function else -1,
        )
        self._named(node.name, "class", number)

    def _members(
        self,
        body: list[ast.stmt],
        number: int,
        methods: list[tuple[str, int]],
        attributes: list[tuple[str, Expr]],
        annotations: list[tuple[str, Expr]],
    ) -> None:
        for one in body:
            if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)):
                methods.append((one.name, self._def(one, owner=number)))
            elif isinstance(one, ast.Assign):
                self._expression(one.value)
                value = describe(one.value, self.lambdas)
                names = [target.id for target in one.targets if isinstance(target, ast.Name)]
                attributes += [(name, value) for name in names]
                self.settings = self.settings or not SETTINGS.isdisjoint(names)
            elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                annotations.append((one.target.id, annotation(one.annotation, self.lambdas)))
                if one.value is not None:
                    self._expression(one.value)
                    attributes.append((one.target.id, describe(one.value, self.lambdas)))
            elif isinstance(one, (ast.If, ast.Try)):
                for part in BODIES:
                    inner = getattr(one, part, [])
                    self._members(inner, number, methods, attributes, annotations)
            else:
                self._statements([one])

    def _with(self, node: ast.With | ast.AsyncWith) -> None:
        scope = self.scope
        before = scope.open
        for item in node.items:
            self._expression(item.context_expr)
            opened = describe(item.context_expr, self.lambdas)
            self._open(opened, item.context_expr.lineno)
            if isinstance(item.optional_vars, ast.Name):
                value = ("entered", opened)
                self._assign(item.optional_vars.id, value, node.lineno)
        self._statements(node.body)
        scope.open = before

    def _open(self, opened: Expr, line: int) -> None:
        loops = self._loop_names(self.scope.loops) if self.scope.loops else ()
        self.scope.blocks.append(Block(opened, line, loops))
        self.scope.open = (*self.scope.open, len(self.scope.blocks) - 1)

    def _try(self, node: ast.Try) -> None:
        scope = self.scope
        self._statements(node.body)
        for handler in node.handlers:
            raises = _ends_in_error(handler.body)
            caught = describe(handler.type, self.lambdas) or ("name", "BaseException")
            if not raises:
                end = node.body[-1].end_lineno or node.lineno
                scope.catches.append((caught, scope.open, node.body[0].lineno, end))
            before = scope.on_error, scope.handling
            scope.on_error, scope.handling = raises or scope.on_error, caught
            self._statements(handler.body)
            scope.on_error, scope.handling = before
        self._statements(node.orelse)
        self._statements(node.finalbody)

    def _for(self, node: ast.For | ast.AsyncFor) -> None:
        self._expression(node.iter)
        if isinstance(node.target, ast.Name):
            value = ("each", describe(node.iter, self.lambdas))
            self._assign(node.target.id, value, node.lineno)
        elif isinstance(node.target, ast.Tuple):
            for one in node.target.elts:
                if isinstance(one, ast.Name):
                    value = ("mix", describe(node.iter, self.lambdas))
                    self._assign(one.id, value, node.lineno)
        self._loop(node)

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While) -> None:
        if isinstance(node, ast.While):
            self._expression(node.test)
        before = self.scope.loops
        if not isinstance(node.body[-1], (ast.Break, ast.Return)):
            self.scope.loops = (*before, node)
        self._statements(node.body)
        self.scope.loops = before
        self._statements(node.orelse)

    def _if(self, node: ast.If) -> None:
        self._expression(node.test)
        scope = self.scope
        given, (holds, fails) = scope.given, said_by(node.test)
        scope.given = given | holds
        self._statements(node.body)
        scope.given = given | fails
        self._statements(node.orelse)
        # Statements behind it, to the end of its body, run where the ``if`` has not left it.
        scope.given = given | fails if leaves(node.body) else given

    def _import(self, node: ast.Import) -> None:
        for one in node.names:
            if one.asname:
                self.scope.imports.append((one.asname, one.name))
            else:
                first = one.name.split(".")[0]
                self.scope.imports.append((first, first))

    def _import_from(self, node: ast.ImportFrom) -> None:
        origin = "." * node.level + (node.module or "")
        for one in node.names:
            if one.name == "*":
                self.stars.append(origin)
            else:
                dot = "" if origin.endswith(".") or not origin else "."
                self.scope.imports.append((one.asname or one.name, f"{origin}{dot}{one.name}"))

    def _return(self, node: ast.Return) -> None:
        if node.value is not None:
            self._expression(node.value)
            self.scope.returned.append(describe(node.value, self.lambdas))

    def _statement(self, node: ast.Expr) -> None:
        self._expression(node.value)
        call = node.value
        if (
            isinstance(call, ast.Call)
            and isinstance(call.func, ast.Attribute)
            and call.func.attr == "enter_context"
            and call.args
        ):  # open until the end of the ``with`` of its ExitStack
            self._open(describe(call.args[0], self.lambdas), call.lineno)


def _ends_in_error(body: list[ast.stmt]) -> bool:
    """Say whether an ``except`` raises: then its transaction rolls back."""
    return isinstance(body[-1], ast.Raise)


_STATEMENTS: dict[type, Callable[[_Walk, Any], object]] = {
    ast.FunctionDef: _Walk._def,
    ast.AsyncFunctionDef: _Walk._def,
    ast.ClassDef: _Walk._class,
    ast.With: _Walk._with,
    ast.AsyncWith: _Walk._with,
    ast.Try: _Walk._try,
    ast.TryStar: _Walk._try,
    ast.For: _Walk._for,
    ast.AsyncFor: _Walk._for,
    ast.While: _Walk._loop,
    ast.If: _Walk._if,
    ast.Assign: _Walk._assignment,
    ast.AnnAssign: _Walk._assignment,
    ast.AugAssign: _Walk._assignment,
    ast.Import: _Walk._import,
    ast.ImportFrom: _Walk._import_from,
    ast.Return: _Walk._return,
    ast.Expr: _Walk._statement,
}
