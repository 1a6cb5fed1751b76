"""Expressions are walked: calls and assignments become facts of the function around them."""

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from aftercommit.lint.expressions import annotation, describe
from aftercommit.lint.facts import UNKNOWN, Assign, Call, Class, Expr, Function
from aftercommit.lint.scope import Scope, set_in

SETTINGS = {"DATABASES", "ATOMIC_REQUESTS", "TASKS", "Q_CLUSTER", "RQ"}
_COMPREHENSIONS = {ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp}


class ExpressionWalk(ABC):
    """Walks expressions. Numbers of functions and classes are places in its lists."""

    def __init__(self) -> None:
        self.functions: list[Any] = []
        self.classes: list[Class] = []
        self.lambdas: dict[int, int] = {}
        self.names: list[tuple[str, str, int]] = []
        self.stars: list[str] = []
        self.settings = False
        self.scope = Scope()
        self.function = 0
        self.loop_names: dict[int, tuple[str, ...]] = {}

    @abstractmethod
    def _statements(self, body: Iterable[ast.stmt]) -> None:
        """Walk statements, which hold expressions and are sometimes held by them."""

    def _parts(self, node: ast.AST) -> None:
        """Walk a statement or expression that means nothing by itself."""
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, list):
                for one in value:
                    self._part(one)
            elif isinstance(value, ast.AST):
                self._part(value)

    def _part(self, node: Any) -> None:
        if isinstance(node, ast.stmt):
            self._statements([node])
        elif isinstance(node, ast.AST):
            self._expression(node)

    def _expression(self, node: ast.AST) -> None:
        kind = type(node)
        if kind is ast.Name or kind is ast.Constant:
            return
        if kind is ast.Call:
            self._call(node)  # type: ignore[arg-type]
        elif kind is ast.Lambda:
            self._lambda(node)  # type: ignore[arg-type]
        elif kind in _COMPREHENSIONS:
            self._comprehension(node)
        elif kind is ast.NamedExpr:
            self._assignment(node)  # type: ignore[arg-type]
        else:
            if kind is ast.Yield:
                self.scope.yields.append(self.scope.open)
            self._parts(node)

    def _comprehension(self, node: Any) -> None:
        before = self.scope.loops
        self.scope.loops = (*before, *node.generators)
        for one in node.generators:
            if isinstance(one.target, ast.Name):
                value = ("each", describe(one.iter, self.lambdas))
                self._assign(one.target.id, value, node.lineno)
        self._parts(node)
        self.scope.loops = before

    def _call(self, node: ast.Call) -> None:
        self._expression(node.func)
        for arg in node.args:
            self._expression(arg)
        for word in node.keywords:
            self._expression(word.value)
        described = describe(node, self.lambdas)
        _, callee, args, keywords = described
        scope = self.scope
        scope.calls.append(
            Call(
                callee,
                args,
                keywords,
                node.lineno,
                node.col_offset,
                node.end_lineno or node.lineno,
                scope.open,
                scope.on_error,
                self._loop_names(scope.loops) if scope.loops else (),
                scope.handling,
                tuple(sorted(scope.given)) if scope.given else (),
            )
        )

    def _loop_names(self, loops: tuple[ast.AST, ...]) -> tuple[str, ...]:
        names: list[str] = []
        for loop in loops:
            found = self.loop_names.get(id(loop))
            if found is None:
                found = self.loop_names[id(loop)] = tuple(set_in(loop))
            names += found
        return tuple(names)

    def _function_of(
        self, name: str, body: list[Any], scope: Scope, *, line: int = 1, **known: Any
    ) -> Function:
        facts: dict[str, Any] = {
            "owner": -1, "parent": -1, "is_async": False, "decorators": (), "params": (),
            "returns": UNKNOWN,
        }  # fmt: skip
        return Function(
            name=name,
            line=line,
            end_line=(body[-1].end_lineno or line) if body else line,
            returned=tuple(scope.returned),
            calls=tuple(scope.calls),
            assigns=tuple(scope.assigns),
            blocks=tuple(scope.blocks),
            imports=tuple(scope.imports),
            yields_in=tuple(scope.yields),
            catches=tuple(scope.catches),
            **(facts | known),
        )

    def _lambda(self, node: ast.Lambda) -> None:
        self._defaults(node.args)
        parent, outer = self.function, self.scope
        number = self._begin()
        self.lambdas[id(node)] = number
        self._expression(node.body)
        self.scope.returned.append(describe(node.body, self.lambdas))
        made = self._function_of(
            "<lambda>",
            [node.body],
            self.scope,
            parent=parent if parent else -1,
            params=self._params(node.args),
            line=node.lineno,
        )
        self._end(number, made, parent, outer)

    def _defaults(self, args: ast.arguments) -> None:
        for one in (*args.defaults, *args.kw_defaults):
            if one is not None:
                self._expression(one)

    def _begin(self) -> int:
        self.functions.append(None)
        self.function = len(self.functions) - 1
        self.scope = Scope()
        return self.function

    def _end(self, number: int, made: Function, parent: int, outer: Scope) -> None:
        self.functions[number] = made
        self.function, self.scope = parent, outer

    def _params(self, args: ast.arguments) -> tuple[tuple[str, Expr], ...]:
        every = (*args.posonlyargs, *args.args, *args.kwonlyargs)
        return tuple((one.arg, annotation(one.annotation, self.lambdas)) for one in every)

    def _assignment(self, node: ast.Assign | ast.AnnAssign | ast.AugAssign) -> None:
        if node.value is None:
            value = UNKNOWN
        else:
            self._expression(node.value)
            value = describe(node.value, self.lambdas)
        if isinstance(node, ast.AnnAssign):
            value = annotation(node.annotation, self.lambdas)
            value = ("typed", value, describe(node.value, self.lambdas))
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            self._target(target, value, node.lineno)

    def _target(self, target: ast.expr, value: Expr, line: int) -> None:
        if isinstance(target, ast.Name):
            self._assign(target.id, value, line)
            self._note_settings(target)
        elif isinstance(target, (ast.Tuple, ast.List)):
            for number, one in enumerate(target.elts):
                self._target(one, ("item", value, ("const", number)), line)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            self._assign(f"{target.value.id}.{target.attr}", value, line)
        elif isinstance(target, ast.Subscript):
            self._expression(target.value)
            self._note_settings(target)

    def _note_settings(self, target: ast.expr) -> None:
        while isinstance(target, (ast.Subscript, ast.Attribute)):
            target = target.value
        if self.function == 0 and isinstance(target, ast.Name) and target.id in SETTINGS:
            self.settings = True

    def _assign(self, target: str, value: Expr, line: int) -> None:
        self.scope.assigns.append(Assign(target, value, line, self.scope.open))
