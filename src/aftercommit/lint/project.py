"""All files of a project: which module a dotted name means, and what a module calls its own."""

import os
from collections import defaultdict
from pathlib import PurePosixPath

from aftercommit.lint.facts import Class, Expr, Function, Module

ROOT_MARKS = {"manage.py", "setup.py", "conftest.py"}


class Project:
    """The facts of all files, by path and by dotted name."""

    def __init__(self, modules: list[Module]) -> None:
        self.modules = modules
        self.by_path = {_posix(module.path): number for number, module in enumerate(modules)}
        folders = [str(PurePosixPath(path).parent) for path in self.by_path]
        self.root = os.path.commonpath(folders) if folders else ""
        self.by_name: dict[str, list[int]] = defaultdict(list)
        self._by_ending: dict[str, list[int]] = defaultdict(list)  # where no root is known
        self._imports: dict[tuple[int, int], dict[str, str]] = {}
        self._names: dict[int, dict[str, tuple[str, int]]] = {}
        self._assigns: dict[tuple[int, int], dict[str, list[Expr]]] = {}
        self._inside: dict[int, dict[int, list[int]]] = {}
        self._add_names()

    def function(self, module: int, number: int) -> Function:
        """Return the facts of a function."""
        return self.modules[module].functions[number]

    def class_(self, module: int, number: int) -> Class:
        """Return the facts of a class."""
        return self.modules[module].classes[number]

    def find_module(self, dotted: str, near: int) -> int | None:
        """Return the module that a dotted name means, the nearest one if there are several."""
        found = self.by_name.get(dotted) or self._by_ending.get(dotted)
        if not found:
            return None
        if len(found) == 1:
            return found[0]
        here = _posix(self.path(near)).split("/")
        paths = {one: _posix(self.path(one)) for one in found}
        return max(
            found,  # of a package and a module with one name Python takes the package
            key=lambda one: (_shared(here, paths[one].split("/")), "__init__" in paths[one]),
        )

    def path(self, module: int) -> str:
        """Return the path of a module."""
        return self.modules[module].path

    def dotted_path(self, module: int) -> str:
        """Return a path as a dotted name, with all folders."""
        place = PurePosixPath(_posix(self.path(module))).with_suffix("")
        return ".".join(part for part in place.parts if part not in {"/", "__init__"})

    def relative(self, dotted: str, module: int) -> tuple[int | None, list[str]]:
        """Return the module that ``..a.b`` means from a module, and what is left of the name."""
        level = len(dotted) - len(dotted.lstrip("."))
        folder = _posix(self.path(module)).split("/")[:-level]
        parts = dotted.lstrip(".").split(".") if dotted.lstrip(".") else []
        for length in range(len(parts), -1, -1):
            found = self._at("/".join([*folder, *parts[:length]]))
            if found is not None:
                return found, parts[length:]
        return None, parts

    def submodule(self, module: int, name: str) -> int | None:
        """Return the module ``name`` in a package."""
        folder, _, file = _posix(self.path(module)).rpartition("/")
        is_package = file == "__init__.py"
        return self._at(f"{folder}/{name}" if folder else name) if is_package else None

    def inside(self, module: int, function: int) -> list[int]:
        """Return the functions that stand in a function, at any depth."""
        if module not in self._inside:
            found: dict[int, list[int]] = defaultdict(list)
            functions = self.modules[module].functions
            for number, one in enumerate(functions):
                around = one.parent
                while around >= 0:
                    found[around].append(number)
                    around = functions[around].parent
            self._inside[module] = dict(found)
        return self._inside[module].get(function, [])

    def imports(self, module: int, function: int) -> dict[str, str]:
        """Return what a function, or 0 for the module, has imported: name and origin."""
        key = module, function
        if key not in self._imports:
            self._imports[key] = dict(self.function(module, function).imports)
        return self._imports[key]

    def names(self, module: int) -> dict[str, tuple[str, int]]:
        """Return the functions and classes at the top of a module."""
        if module not in self._names:
            every = self.modules[module].names
            self._names[module] = {name: (kind, number) for name, kind, number in every}
        return self._names[module]

    def assigns(self, module: int, function: int) -> dict[str, list[Expr]]:
        """Return what the names of a function are set to."""
        key = module, function
        if key not in self._assigns:
            found: dict[str, list[Expr]] = defaultdict(list)
            for one in self.function(module, function).assigns:
                found[one.target].append(one.value)
            self._assigns[key] = dict(found)
        return self._assigns[key]

    def _at(self, place: str) -> int | None:
        found = self.by_path.get(f"{place}.py")
        return self.by_path.get(f"{place}/__init__.py") if found is None else found

    def _add_names(self) -> None:
        roots = self._roots()
        for path, number in self.by_path.items():
            place = PurePosixPath(path)
            parts = list(place.with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            for start in range(len(parts)):
                dotted = ".".join(parts[start:])
                if PurePosixPath(*parts[:start]) in roots:
                    self.by_name[dotted].append(number)
                elif start < len(parts) - 1:
                    self._by_ending[dotted].append(number)

    def _roots(self) -> set[PurePosixPath]:
        """Return the folders that are on Python's path, by what stands in them."""
        packages = {PurePosixPath(p).parent for p in self.by_path if p.endswith("/__init__.py")}
        roots = {PurePosixPath(p).parent for p in self.by_path if _name(p) in ROOT_MARKS}
        roots |= {one.parent for one in packages if one.parent not in packages}
        if self.by_path:
            roots.add(PurePosixPath(self.root))
        return roots | {one / "src" for one in roots}


def _shared(here: list[str], there: list[str]) -> int:
    """Return how many folders two paths begin with alike."""
    pairs = zip(here, there, strict=False)
    return next((n for n, (one, other) in enumerate(pairs) if one != other), len(there))


def _posix(path: str) -> str:
    return path.replace(os.sep, "/")


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
