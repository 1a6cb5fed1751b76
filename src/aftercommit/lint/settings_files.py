"""What the settings files of a project say: they are evaluated as far as literals go, not run."""

import ast
from pathlib import PurePath
from typing import Any

from aftercommit.lint.project import Project


class Unknown:
    """A value that only running the settings could tell."""


UNKNOWN = Unknown()
DEFAULTED = {"bool", "get", "getenv", "config", "str", "env"}
DEMOS = {"demo", "demos", "example", "examples", "sandbox"}


class SettingsFiles:
    """Evaluates modules of settings; ``parse`` reads a module of the project by its number."""

    def __init__(self, project: Project, trees: dict[int, ast.Module]) -> None:
        self._project = project
        self._trees = trees
        self._done: dict[int, dict[str, Any]] = {}

    def values(self, module: int) -> dict[str, Any]:
        """Return the names that a module sets, with what it takes from others by ``*``."""
        if module not in self._done:
            self._done[module] = {}
            found: dict[str, Any] = {}
            tree = self._trees.get(module)
            if tree is not None:
                self._run(tree.body, found, module)
            self._done[module] = found
        return self._done[module]

    def _run(self, body: list[ast.stmt], names: dict[str, Any], module: int) -> None:
        for one in body:
            match one:
                case ast.Assign(targets=targets, value=value):
                    result = self._value(value, names)
                    for target in targets:
                        self._set(target, result, names)
                case ast.AnnAssign(target=target, value=ast.expr() as value):
                    self._set(target, self._value(value, names), names)
                case ast.ImportFrom():
                    self._import(one, names, module)
                case ast.Expr(value=ast.Call() as call):
                    self._update(call, names)
                case _:
                    self._run_inside(one, names, module)

    def _run_inside(self, one: ast.stmt, names: dict[str, Any], module: int) -> None:
        match one:
            case ast.ClassDef() | ast.With() | ast.Try():  # a class: django-configurations
                self._run(one.body, names, module)
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]):
                names[name] = self._value(value, names)  # a property of such a class
            case ast.If():
                self._run(one.body, names, module)
                self._run(one.orelse, names, module)
            case ast.For(target=ast.Name(id=name), iter=source):
                self._loop(one, name, source, names, module)

    def _loop(
        self, loop: ast.For, name: str, source: ast.expr, names: dict[str, Any], module: int
    ) -> None:
        """Take ``for alias in DATABASES: DATABASES[alias]["ATOMIC_REQUESTS"] = True``."""
        items = self._value(source, names)
        for item in list(items) if isinstance(items, (dict, list)) else []:
            names[name] = item
            self._run(loop.body, names, module)

    def _import(self, node: ast.ImportFrom, names: dict[str, Any], module: int) -> None:
        dotted = "." * node.level + (node.module or "")
        if node.level:
            source, rest = self._project.relative(dotted, module)
            source = None if rest else source
        else:
            source = self._project.find_module(dotted, module)
        if source is None:
            return
        known = self.values(source)
        for one in node.names:
            if one.name == "*":
                names.update(known)
            elif one.name in known:
                names[one.asname or one.name] = known[one.name]

    def _set(self, target: ast.expr, value: Any, names: dict[str, Any]) -> None:
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Subscript):
            held, key = self._value(target.value, names), self._value(target.slice, names)
            if isinstance(held, dict) and isinstance(key, (str, int)):
                held[key] = value

    def _update(self, call: ast.Call, names: dict[str, Any]) -> None:
        if not isinstance(call.func, ast.Attribute) or call.func.attr not in {
            "update",
            "setdefault",
        }:
            return
        held = self._value(call.func.value, names)
        if not isinstance(held, dict):
            return
        args = [self._value(arg, names) for arg in call.args]
        if call.func.attr == "setdefault" and len(args) > 1:
            held.setdefault(str(args[0]), args[1])
        elif call.func.attr == "update":
            held.update(args[0] if args and isinstance(args[0], dict) else {})
            held.update({w.arg: self._value(w.value, names) for w in call.keywords if w.arg})

    def _value(self, node: ast.expr, names: dict[str, Any]) -> Any:
        found: Any = UNKNOWN
        match node:
            case ast.Constant(value=value):
                found = value
            case ast.Name(id=name):
                found = names.get(name, UNKNOWN)
            case ast.Dict(keys=keys, values=values):
                found = self._dict(keys, values, names)
            case ast.Call():
                found = self._call(node, names)
            case ast.IfExp(body=body):
                found = self._value(body, names)
            case _:
                found = self._combined(node, names)
        return found

    def _combined(self, node: ast.expr, names: dict[str, Any]) -> Any:
        match node:
            case ast.List(elts=elts) | ast.Tuple(elts=elts):
                return [self._value(one, names) for one in elts]
            case ast.Subscript(value=base, slice=key):
                return self._subscript(self._value(base, names), self._value(key, names))
            case ast.UnaryOp(op=ast.Not(), operand=inner):
                value = self._value(inner, names)
                return UNKNOWN if isinstance(value, Unknown) else not value
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                parts = self._value(left, names), self._value(right, names)
                return {k: v for one in parts if isinstance(one, dict) for k, v in one.items()}
        return UNKNOWN

    def _dict(
        self, keys: list[ast.expr | None], values: list[ast.expr], names: dict[str, Any]
    ) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key, value in zip(keys, values, strict=True):
            result = self._value(value, names)
            if key is None:
                found.update(result if isinstance(result, dict) else {})
                continue
            name = self._value(key, names)
            if isinstance(name, (str, int)):
                found[name] = result
        return found

    @staticmethod
    def _subscript(held: Any, key: Any) -> Any:
        if isinstance(held, dict) and isinstance(key, (str, int)):
            return held.setdefault(key, {}) if key not in held else held[key]
        return UNKNOWN

    def _call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        """Take the default of ``env.bool("X", default=True)``; a URL's entry is a dictionary."""
        words = {word.arg: self._value(word.value, names) for word in node.keywords if word.arg}
        if isinstance(node.func, ast.Name) and node.func.id in {"dict", "bool"}:
            if node.func.id == "dict":
                return words
            return self._value(node.args[0], names) if node.args else False
        if "default" in words and not isinstance(words["default"], str):
            return words["default"]
        name = (
            node.func.attr
            if isinstance(node.func, ast.Attribute)
            else getattr(node.func, "id", "")
        )
        if name in {"db", "db_url", "parse", "config"} and not isinstance(
            words.get("default"), bool
        ):
            return {}
        if name in DEFAULTED and len(node.args) > 1:
            return self._value(node.args[1], names)
        return UNKNOWN


def is_test_settings(path: str, root: str) -> bool:
    """Say whether a file of settings is for tests or for a demo beside a package.

    Neither says which transactions the package will run in. ``root``: the folder of all files.
    """
    inside = PurePath(path).relative_to(root).parts
    if any("test" in part.lower() for part in PurePath(path).parts[-3:]):
        return True
    return not DEMOS.isdisjoint(part.lower() for part in inside[:-2])
