"""Classes of a project: what they inherit, and what kind of class Django takes them for."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from aftercommit.lint.expressions import dotted
from aftercommit.lint.project import Project
from aftercommit.lint.values import ClassId, Value

if TYPE_CHECKING:
    from aftercommit.lint.resolve import Resolver

# The last part of the name of a base outside the project. A leading "=" wants it whole.
KINDS = {
    "model": ("Model", "=AbstractUser", "=AbstractBaseUser", "=PermissionsMixin", "ModelMixin"),
    "manager": ("Manager", "QuerySet"),
    "view": ("View", "=FormMixin", "=FormView", "MultipleObjectMixin", "SingleObjectMixin"),
    "api": (
        "ViewSet", "APIView", "=ViewSetMixin", "ModelMixin", "=Mutation", "=BaseMutation",
        "=ControllerBase", "ModelController", "MutationPayload",
    ),
    "admin": ("ModelAdmin", "Inline", "=UserAdmin", "=BaseModelAdmin", "AdminMixin"),
    "form": ("Form", "FormSet"),
    "serializer": ("Serializer",),
    "task": ("=Task", "=DjangoTask"),
    "command": ("Command",),
    "test": ("TestCase",),
}  # fmt: skip
NOT_MODELS = ("pydantic", "ninja", "msgspec", "sqlmodel", "rest_framework", "odoo", "torch")


class Classes:
    """Answers questions about classes; a class is ``(module, number)``."""

    def __init__(self, project: Project, resolver: Resolver) -> None:
        self._project = project
        self._resolver = resolver
        self._bases: dict[ClassId, tuple[list[ClassId], list[str]]] = {}
        self._mros: dict[ClassId, list[ClassId]] = {}
        self._methods: dict[ClassId, dict[str, int]] = {}
        self._fields: dict[tuple[int, int, str], Value | None] = {}
        self._kinds: dict[tuple[int, int, str], bool] = {}
        self._by_name: dict[str, list[ClassId]] = defaultdict(list)
        self._subclasses: dict[ClassId, list[ClassId]] | None = None
        for module, facts in enumerate(project.modules):
            for number, one in enumerate(facts.classes):
                self._by_name[one.name].append((module, number))

    def bases(self, module: int, number: int) -> tuple[list[ClassId], list[str]]:
        """Return the bases in the project, and the names of those outside."""
        key = module, number
        if key not in self._bases:
            self._bases[key] = ([], [])  # a class that inherits from itself ends here
            self._bases[key] = self._find_bases(module, number)
        return self._bases[key]

    def mro(self, module: int, number: int) -> list[ClassId]:
        """Return a class and what it inherits from, in about Python's order."""
        key = module, number
        if key not in self._mros:
            self._mros[key] = [key]
            order = [key]
            for base in self.bases(module, number)[0]:
                order += [one for one in self.mro(*base) if one not in order]
            self._mros[key] = order
        return self._mros[key]

    def method(
        self, module: int, number: int, name: str, *, skip_own: bool = False
    ) -> tuple[int, int] | None:
        """Return the function that ``name`` means on a class."""
        for where, one in self.mro(module, number)[1 if skip_own else 0 :]:
            found = self.methods(where, one).get(name)
            if found is not None:
                return where, found
        return None

    def methods(self, module: int, number: int) -> dict[str, int]:
        """Return the methods that a class defines itself."""
        key = module, number
        if key not in self._methods:
            self._methods[key] = dict(self._project.class_(*key).methods)
        return self._methods[key]

    def overrides(self, module: int, number: int, name: str) -> list[tuple[int, int]]:
        """Return what subclasses define for a method."""
        found = []
        for where, one in self.subclasses(module, number):
            method = self.methods(where, one).get(name)
            if method is not None:
                found.append((where, method))
        return found

    def subclasses(self, module: int, number: int) -> list[ClassId]:
        """Return all classes that inherit from a class."""
        if self._subclasses is None:
            self._subclasses = defaultdict(list)
            for where, facts in enumerate(self._project.modules):
                for one in range(len(facts.classes)):
                    for above in self.mro(where, one)[1:]:
                        self._subclasses[above].append((where, one))
        return self._subclasses.get((module, number), [])

    def field(self, module: int, number: int, name: str) -> Value | None:
        """Return what ``self.name`` holds: from the class, its annotations or ``__init__``."""
        key = module, number, name
        if key not in self._fields:
            self._fields[key] = None
            self._fields[key] = self._find_field(module, number, name)
        return self._fields[key]

    def is_kind(self, module: int, number: int, kind: str) -> bool:
        """Say whether a class is a ``model``, ``view``, ``admin`` …: see ``KINDS``."""
        key = module, number, kind
        if key not in self._kinds:
            outside = [name for one in self.mro(module, number) for name in self.bases(*one)[1]]
            self._kinds[key] = any(_named_as(name, kind) for name in outside)
        return self._kinds[key]

    def named(self, name: str) -> Value | None:
        """Return the class of this name, if the project has one; models come first."""
        found = self._by_name.get(name, [])
        if len(found) > 1:
            found = [one for one in found if self.is_kind(*one, "model")]
        return ("class", *found[0]) if len(found) == 1 else None

    def user_model(self) -> Value | None:
        """Return the project's own user model, if there is one and no other."""
        every = [one for name in self._by_name if "User" in name for one in self._by_name[name]]
        users = [one for one in every if self._is_user(one)]
        return ("class", *users[0]) if len(users) == 1 else None

    def _is_user(self, one: ClassId) -> bool:
        outside = [name for above in self.mro(*one) for name in self.bases(*above)[1]]
        return any(name.endswith(("AbstractUser", "AbstractBaseUser")) for name in outside)

    def _find_bases(self, module: int, number: int) -> tuple[list[ClassId], list[str]]:
        facts = self._project.class_(module, number)
        inside: list[ClassId] = []
        outside: list[str] = []
        for expr in facts.bases:
            base = expr[1] if expr and expr[0] == "item" else expr  # Generic[T]
            value = self._resolver.value(base, module, max(facts.parent, 0))
            if value is not None and value[0] == "class" and value[1:] != (module, number):
                inside.append((value[1], value[2]))
            elif value is not None and value[0] == "outside":
                outside.append(value[1].replace("()", ""))
            else:
                outside.append(f"?.{dotted(base)}")
        return inside, outside

    def _find_field(self, module: int, number: int, name: str) -> Value | None:
        for where, one in self.mro(module, number):
            found = self._own_field(where, one, name)
            if found is not None:
                return found
        return None

    def _own_field(self, module: int, number: int, name: str) -> Value | None:
        facts = self._project.class_(module, number)
        for target, expr in facts.annotations:
            found = self._resolver.annotations.held(expr, module, 0) if target == name else None
            if found is not None:
                return found
        for target, expr in facts.attributes:
            if target == name:
                return self._resolver.value(expr, module, 0)
        for method in self.methods(module, number).values():
            set_to = self._project.assigns(module, method).get(f"self.{name}", ())
            found = self._resolver.first(tuple(set_to), module, method)
            if found is not None:
                return found
        return None


def _named_as(name: str, kind: str) -> bool:
    if kind == "model" and name.startswith(NOT_MODELS):
        return False
    last = name.rsplit(".", 1)[-1]
    for ending in KINDS[kind]:
        if last == ending[1:] if ending.startswith("=") else last.endswith(ending):
            return True
    return False
