"""Which blocks and decorators open a transaction, and on which alias."""

from dataclasses import dataclass
from fnmatch import fnmatch

from aftercommit.lint.environment import Environment
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.values import FunctionId, Value

OPENS = {
    "atomic", "commit_on_success", "create_revision", "durable", "transaction_required",
    "mark_for_rollback_on_error",
}  # fmt: skip
LIBRARIES = ("django.db", "reversion", "django_subatomic", "xact", "?.transaction")
REPLICA_WORDS = ("replica", "read", "slave", "secondary", "follower")


@dataclass(frozen=True, slots=True)
class Transaction:
    """How a block or decorator opens a transaction."""

    using: Expr = ()
    savepoint: bool = True
    line: int = 0


class Transactions:
    """Recognises transactions."""

    def __init__(self, resolver: Resolver, environment: Environment) -> None:
        self._resolver = resolver
        self._environment = environment
        self._blocks: dict[FunctionId, dict[int, Transaction]] = {}
        self._decorated: dict[FunctionId, Transaction | None] = {}
        self._wrappers: dict[FunctionId, bool] = {}
        self._open: set[FunctionId] = set()

    def blocks(self, module: int, function: int) -> dict[int, Transaction]:
        """Return the blocks of a function that open a transaction, by their number."""
        key = module, function
        if key not in self._blocks:
            facts = self._resolver.project.function(*key)
            found = (
                (n, self._opened(b.opened, *key, b.line)) for n, b in enumerate(facts.blocks)
            )
            self._blocks[key] = {number: one for number, one in found if one is not None}
        return self._blocks[key]

    def decorated(self, module: int, function: int) -> Transaction | None:
        """Return the transaction that a decorator of the function, or of its class, opens."""
        key = module, function
        if key not in self._decorated:
            self._decorated[key] = None
            self._decorated[key] = self._find_decorated(module, function)
        return self._decorated[key]

    def around(self, call: Call, module: int, function: int) -> Transaction | None:
        """Return the innermost transaction that is open at a call by its own function."""
        blocks = self.blocks(module, function)
        for number in reversed(call.blocks):
            if number in blocks:
                return blocks[number]
        return self.decorated(module, function)

    @staticmethod
    def alias(transaction: Transaction) -> str | None:
        """Return how a transaction's alias is written: "" for the default, None if unknown."""
        using = transaction.using
        if not using or using in {("const", None), ("const", "default")}:
            return ""
        if using[0] == "const":
            return repr(using[1]).replace("'", '"')
        text = dotted(using)
        return text if text and "()" not in text and using[0] in {"name", "attr"} else None

    # Opening.

    def _opened(self, expr: Expr, module: int, function: int, line: int) -> Transaction | None:
        made, args, words = expr, (), {}
        if expr and expr[0] == "call":
            made, args, words = expr[1], expr[2], dict(expr[3])
        value = self._resolver.value(made, module, function)
        if not self._opens(made, value):
            return None
        using = words.get("using") or (args[0] if args and _is_atomic(made, value) else ())
        if self._is_replica(using, module, function):
            return None
        if words.get("atomic") == ("const", False):  # reversion.create_revision(atomic=False)
            return None
        savepoint = words.get("savepoint") != ("const", False)
        return Transaction(using, savepoint, line)

    def _opens(self, made: Expr, value: Value | None) -> bool:
        text = dotted(made)
        last = text.rsplit(".", 1)[-1]
        if any(
            fnmatch(text, one) or fnmatch(last, one) for one in self._environment.transactions
        ):
            return True
        if value is None:
            return last == "atomic"
        if value[0] == "outside":
            origin = value[1]
            if any(fnmatch(origin, one) for one in self._environment.transactions):
                return True
            return origin.rsplit(".", 1)[-1] in OPENS and origin.startswith(LIBRARIES)
        if value[0] in {"function", "method"}:
            return self._is_wrapper(value[1], value[2])
        return value[0] == "class" and self._enters(value[1], value[2])

    def _enters(self, module: int, number: int) -> bool:
        """Say whether a class of the project is a context manager that opens a transaction."""
        classes = self._resolver.classes
        above = classes.mro(module, number)
        names = {name for one in above for name in classes.bases(*one)[1]}
        if any(name.startswith("django.db") and name.endswith("Atomic") for name in names):
            return True
        method = classes.method(module, number, "__enter__")
        if method is None or method in self._open:
            return False
        self._open.add(method)
        calls = self._resolver.project.function(*method).calls
        opened = any(self._opened(call.callee, *method, 0) for call in calls)
        self._open.discard(method)
        return opened

    def _is_replica(self, using: Expr, module: int, function: int) -> bool:
        if not using:
            return False
        if using[0] == "const":
            name = str(using[1])
            if name in self._environment.replicas:
                return True
        else:
            name = dotted(using)
            for expr in self._resolver.project.assigns(module, 0).get(name, ()):
                if expr and expr[0] == "const":
                    name = f"{name} {expr[1]}"
        return any(word in name.lower() for word in REPLICA_WORDS)

    def _is_wrapper(self, module: int, function: int) -> bool:
        """Say whether a function of the project opens a transaction around what it is given."""
        key = module, function
        if key not in self._wrappers and key not in self._open:
            self._open.add(key)
            self._wrappers[key] = self._yields_inside(*key) or self._calls_inside(*key)
            self._open.discard(key)
        return self._wrappers.get(key, False)

    def _yields_inside(self, module: int, function: int) -> bool:
        facts = self._resolver.project.function(module, function)
        if any(self._opens_as_decorator(one, module, function) for one in facts.decorators):
            return bool(facts.yields_in)
        blocks = self.blocks(module, function) if facts.yields_in else {}
        return any(number in blocks for opened in facts.yields_in for number in opened)

    def _calls_inside(self, module: int, function: int) -> bool:
        """Say whether a decorator calls the function that it is given in a transaction."""
        project = self._resolver.project
        inside = project.inside(module, function)
        params = {
            name
            for number in (function, *inside)
            for name, _ in project.function(module, number).params
        }
        return any(
            self.around(call, module, number) is not None
            for number in inside
            for call in project.function(module, number).calls
            if call.callee[:1] == ("name",) and call.callee[1] in params
        )

    def _opens_as_decorator(self, expr: Expr, module: int, function: int) -> bool:
        return self._of_decorator(expr, module, function, 0) is not None

    def _of_decorator(
        self, expr: Expr, module: int, function: int, line: int
    ) -> Transaction | None:
        if expr and expr[0] == "call" and dotted(expr[1]).endswith("method_decorator"):
            inner = expr[2][0] if expr[2] else ()
            parts = inner[1:] if inner and inner[0] == "mix" else (inner,)
            found = (self._of_decorator(one, module, function, line) for one in parts)
            return next((one for one in found if one is not None), None)
        return self._opened(expr, module, function, line)

    def _find_decorated(self, module: int, function: int) -> Transaction | None:
        project = self._resolver.project
        facts = project.function(module, function)
        for expr in facts.decorators:
            found = self._of_decorator(expr, module, max(facts.parent, 0), facts.line)
            if found is not None:
                return found
        return self._of_class(module, facts.owner, facts.name) if facts.owner >= 0 else None

    def _of_class(self, module: int, owner: int, name: str) -> Transaction | None:
        """Take ``@method_decorator(transaction.atomic, name="dispatch")`` into account."""
        classes = self._resolver.classes
        views = any(classes.is_kind(module, owner, kind) for kind in ("view", "api"))
        for where, number in classes.mro(module, owner):
            for expr in self._resolver.project.class_(where, number).decorators:
                names = (
                    {v[1] for n, v in expr[3] if n == "name" and v}
                    if expr[:1] == ("call",)
                    else set()
                )
                if names & ({name, "dispatch"} if views else {name}):
                    found = self._of_decorator(expr, where, 0, 0)
                    if found is not None:
                        return found
            method = classes.methods(where, number).get("dispatch") if views else None
            if method is not None and name != "dispatch":
                found = self.decorated(where, method)
                if found is not None:
                    return found
        return None


def _is_atomic(made: Expr, value: Value | None) -> bool:
    text = value[1] if value is not None and value[0] == "outside" else dotted(made)
    return str(text).endswith("atomic")
