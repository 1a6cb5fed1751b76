"""Functions that Django and others call inside a transaction, or surely outside of one."""

from dataclasses import dataclass

from aftercommit.lint.dispatchers import Dispatchers
from aftercommit.lint.environment import Environment
from aftercommit.lint.expressions import dotted
from aftercommit.lint.non_atomic import NonAtomic
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.saved_rows import SavedRows
from aftercommit.lint.signals import Signals

ADMIN_HOOKS = {
    "construct_change_message", "delete_model", "log_addition", "log_change", "log_deletion",
    "response_add", "response_change", "response_delete", "save_form", "save_formset",
    "save_model", "save_new_objects", "save_related",
}  # fmt: skip
MODEL_METHODS = {"save", "delete", "save_base", "asave", "adelete"}
FORM_METHODS = {"save", "_save_m2m", "save_m2m", "create", "update", "perform_create"}
FORM_READS = {
    "clean",
    "is_valid",
    "validate",
    "to_internal_value",
    "to_representation",
    "__init__",
}
ROUTES = {
    "api_operation", "delete", "get", "http_delete", "http_get", "http_patch", "http_post",
    "http_put", "patch", "post", "put",
}  # fmt: skip
GRAPH = {"field", "input_mutation", "mutation"}
VIEW_DECORATORS = {
    "api_view", "csrf_exempt", "login_required", "permission_required", "require_GET",
    "require_POST", "require_http_methods", "staff_member_required",
}  # fmt: skip
CLASS_LEVEL = {"as_view", "__init__", "__init_subclass__", "get_urls", "setup_classes"}


@dataclass(frozen=True, slots=True)
class Entry:
    """Why a function runs in a transaction that no call in the project shows."""

    rule: str
    reason: str


class Entries:
    """Says of functions whether they are entered in a transaction, or surely in none."""

    def __init__(
        self,
        resolver: Resolver,
        signals: Signals,
        dispatchers: Dispatchers,
        environment: Environment,
    ) -> None:
        self._resolver = resolver
        self._signals = signals
        self._dispatchers = dispatchers
        self._environment = environment
        self._non_atomic = NonAtomic(resolver)
        self._saved_rows = SavedRows(resolver)
        self._admin_forms: set[tuple[int, int]] | None = None

    def entry(self, module: int, function: int) -> Entry | None:
        """Return why a function is entered inside a transaction, None if nothing says so."""
        facts = self._resolver.project.function(module, function)
        name = facts.name
        for receiver in self._signals.of_function.get((module, function), ()):
            if receiver.kind == "delete":
                return Entry("AC202", f"{name}() receives {receiver.name}")
            if receiver.kind == "save":
                return Entry("AC201", f"{name}() receives {receiver.name}")
            if receiver.kind == "other":
                return Entry("AC203", f"{name}() receives the signal {receiver.name}")
        if facts.owner >= 0:
            return self._of_method(module, facts.owner, name, facts.is_async, facts)
        is_task = bool(self._dispatchers.library(module, function)[0])
        if self._environment.atomic_requests and not facts.is_async and not is_task:
            return self._of_view(module, function)
        return None

    def is_outside(self, module: int, function: int) -> bool:
        """Say whether a function is entered in autocommit: a task, a command, a plain view."""
        facts = self._resolver.project.function(module, function)
        if (
            function == 0
            or self._is_command(module)
            or self._dispatchers.library(module, function)[0]
        ):
            return True
        if self._non_atomic.is_function(module, function):
            return True
        if facts.owner >= 0 and self._is_kind(module, facts.owner, ("command", "task", "test")):
            return facts.name in {"handle", "run"} or facts.name.startswith("test")
        return self._is_plain_view(module, function)

    def _is_plain_view(self, module: int, function: int) -> bool:
        if self._environment.atomic_requests or not self._environment.has_settings:
            return False
        facts = self._resolver.project.function(module, function)
        if facts.owner < 0:
            return self._looks_like_a_view(module, function)
        return self._is_kind(module, facts.owner, ("view", "api"))

    def _is_command(self, module: int) -> bool:
        return "/management/commands/" in f"/{self._resolver.project.path(module)}"

    def _is_kind(self, module: int, owner: int, kinds: tuple[str, ...]) -> bool:
        return any(self._resolver.classes.is_kind(module, owner, kind) for kind in kinds)

    def _of_method(
        self, module: int, owner: int, name: str, is_async: bool, facts: object
    ) -> Entry | None:
        title = f"{self._resolver.project.class_(module, owner).name}.{name}()"
        if name in MODEL_METHODS and self._is_kind(module, owner, ("model",)):
            if not self._may_be_saved_inside(module, owner, name):
                return None
            return Entry("AC204", f"{title} is called by whoever saves or deletes a row")
        if name in ADMIN_HOOKS and self._is_kind(module, owner, ("admin",)):
            return Entry("AC205", f"{title} is called by the admin inside a transaction")
        if name in FORM_METHODS and self._saves_inside(module, owner):
            return Entry("AC208", f"{title} saves what a request has sent")
        if not self._environment.atomic_requests or is_async or name in CLASS_LEVEL:
            return None
        return self._under_requests(module, owner, title, name, facts)

    def _may_be_saved_inside(self, module: int, model: int, method: str) -> bool:
        """Say whether a row may be saved in a transaction that no call in the project shows."""
        unknown = self._environment.may_be_atomic
        return unknown or self._saved_rows.in_a_transaction(module, model, method)

    def _saves_inside(self, module: int, owner: int) -> bool:
        """Say whether a form or serializer may be saved inside a transaction."""
        if not self._is_kind(module, owner, ("form", "serializer")):
            return False
        known = self._environment.has_settings and not self._environment.atomic_requests
        return not known or (module, owner) in self._forms_of_the_admin()

    def _forms_of_the_admin(self) -> set[tuple[int, int]]:
        if self._admin_forms is None:
            self._admin_forms = set()
            for module, facts in enumerate(self._resolver.project.modules):
                for number, one in enumerate(facts.classes):
                    for name, expr in one.attributes:
                        if name == "form" and self._is_kind(module, number, ("admin",)):
                            value = self._resolver.value(expr, module, 0)
                            if value is not None and value[0] == "class":
                                self._admin_forms.add((value[1], value[2]))
        return self._admin_forms

    def _under_requests(
        self, module: int, owner: int, title: str, name: str, facts: object
    ) -> Entry | None:
        reason = f"{title} answers a request under ATOMIC_REQUESTS"
        if self._non_atomic.is_class(module, owner):
            return None
        if any("non_atomic_requests" in dotted(d) for d in facts.decorators):  # type: ignore[attr-defined]
            return None
        if self._is_kind(module, owner, ("api",)) or self._is_controller(module, owner):
            return Entry("AC207", reason)
        if self._is_kind(module, owner, ("view", "admin")):
            return Entry("AC206", reason)
        if self._is_endpoint(facts.decorators):  # type: ignore[attr-defined]
            return Entry("AC207", reason)
        return None

    def _is_controller(self, module: int, owner: int) -> bool:
        classes = self._resolver.classes
        names = [
            dotted(one).replace("()", "").rsplit(".", 1)[-1]
            for above in classes.mro(module, owner)
            for one in self._resolver.project.class_(*above).decorators
        ]
        return "api_controller" in names

    def _of_view(self, module: int, function: int) -> Entry | None:
        facts = self._resolver.project.function(module, function)
        if self._non_atomic.is_function(module, function):
            return None
        reason = f"{facts.name}() answers a request under ATOMIC_REQUESTS"
        if self._is_endpoint(facts.decorators):
            return Entry("AC207", reason)
        return Entry("AC206", reason) if self._looks_like_a_view(module, function) else None

    def _looks_like_a_view(self, module: int, function: int) -> bool:
        facts = self._resolver.project.function(module, function)
        if facts.parent >= 0 or facts.name == "<lambda>" or self._is_template_code(module):
            return False
        if facts.params and facts.params[0][0] in {"request", "_request"}:
            return True
        names = {dotted(one).replace("()", "").rsplit(".", 1)[-1] for one in facts.decorators}
        return bool(names & VIEW_DECORATORS)

    def _is_template_code(self, module: int) -> bool:
        path = self._resolver.project.path(module)
        return any(part in path for part in ("templatetags", "context_processors", "middleware"))

    @staticmethod
    def _is_endpoint(decorators: tuple[tuple[object, ...], ...]) -> bool:
        for expr in decorators:
            text = dotted(expr)
            base, _, name = text.replace("()", "").rpartition(".")
            owner = base.rsplit(".", 1)[-1].lower()
            routed = any(word in owner for word in ("api", "rout", "ninja", "endpoint"))
            if routed and text.endswith("()") and name in ROUTES:
                return True
            if name in GRAPH and any(w in base.lower() for w in ("strawberry", "gql", "type")):
                return True
            if text.replace("()", "") in {"http_post", "http_put", "http_patch", "http_delete"}:
                return True
        return False
