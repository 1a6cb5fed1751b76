"""Which calls hand work to a broker, for each library, and which of them wait for the commit."""

from dataclasses import dataclass
from fnmatch import fnmatch

from aftercommit.lint.environment import Environment
from aftercommit.lint.expressions import dotted
from aftercommit.lint.facts import Call, Expr
from aftercommit.lint.resolve import Resolver
from aftercommit.lint.rq_commits import mode_of
from aftercommit.lint.values import FunctionId, Value

SAFE = {"delay_on_commit", "apply_async_on_commit"}
# Methods of a task, for each library.
OF_A_TASK = {
    "celery": {"apply_async", "delay", "send"},
    "rq": {"delay", "enqueue"},
    "dramatiq": {"send", "send_with_options"},
    "huey": {"schedule", "delay", "map"},
    "tasks": {"aenqueue", "enqueue"},
    "procrastinate": {"batch_defer", "batch_defer_async", "defer", "defer_async"},
}
SIGNATURES = {
    "chunks()", "clone()", "map()", "s()", "set()", "si()", "signature()", "starmap()",
    "subtask()", "configure()", "using()", "bind()", "message()", "message_with_options()",
}  # fmt: skip
BY_NAME = {"apply_async", "delay", "send_task", "send_with_options"}
QUEUE_WORDS = {
    "enqueue", "enqueue_at", "enqueue_call", "enqueue_in", "enqueue_job", "enqueue_many",
    "aenqueue",
}  # fmt: skip
QUEUES_THAT_WAIT = {"enqueue", "enqueue_call"}  # of django-rq; the others send at once
CRON_WORDS = {"cron", "schedule"}
DJANGO_Q_SENDS = {
    "AsyncTask().run", "Chain().run", "Iter().run", "async_chain", "async_iter", "async_task",
    "schedule",
}  # fmt: skip
DEFERS = OF_A_TASK["procrastinate"]
CANVAS = ("chain()", "chord()", "group()", "chunks()", "signature()", "xmap()", "xstarmap()")
PIPELINES = (
    "dramatiq.pipeline().run",
    "dramatiq.group().run",
    "dramatiq.pipeline()",
    "get_broker().enqueue",
)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A call that hands work to a broker."""

    library: str
    subject: str  # as the reader knows it: "send_email.delay()"
    task: tuple[int, int] | None  # the task's function, if it is the project's
    # The library sends it after the commit, or the row is part of it; None: perhaps.
    waits: bool | None
    arguments: tuple[Expr, ...]  # what the task gets


class Dispatchers:
    """Recognises dispatches."""

    def __init__(self, resolver: Resolver, environment: Environment) -> None:
        self._resolver = resolver
        self._environment = environment
        self._libraries: dict[tuple[int, int], tuple[str, bool | None]] = {}

    def recognise(self, call: Call, module: int, function: int) -> Dispatch | None:
        """Return what a call dispatches, None if it dispatches nothing."""
        callee = call.callee
        name = callee[2] if callee and callee[0] == "attr" else ""
        value = self._resolver.value(callee, module, function)
        if name in SAFE:
            return self._made("celery", call, value, waits=True)
        declared = self._declared(call, value)
        return declared or self._of_value(call, value, name, (module, function))

    def _of_value(
        self, call: Call, value: Value | None, name: str, here: FunctionId
    ) -> Dispatch | None:
        match value:
            case None:
                return self._by_name(call, name, here)
            case ("on", ("function" | "method", *_) as task, method):
                return self._of_task(call, task, method)
            case ("outside", origin):
                return self._of_library(call, origin, here)
            case ("function", where, number):
                library, waits = self.library(where, number)
                is_huey = library == "huey"  # calling its task sends it
                return self._made("huey", call, value, waits=waits) if is_huey else None
        return None

    def library(self, module: int, function: int) -> tuple[str, bool | None]:
        """Return whose task a function is, "" for none, and whether its calls wait."""
        key = module, function
        if key not in self._libraries:
            self._libraries[key] = self._find_library(module, function)
        return self._libraries[key]

    def _find_library(self, module: int, function: int) -> tuple[str, bool | None]:
        facts = self._resolver.project.function(module, function)
        for expr in facts.decorators:
            made = expr[1] if expr and expr[0] == "call" else expr
            value = self._resolver.value(made, module, max(facts.parent, 0))
            origin = value[1] if value and value[0] == "outside" else dotted(made)
            found = _library_of(origin, dotted(made))
            if found and origin.startswith("django_rq."):
                return found, self._environment.rq_waits
            if found:
                return found, "on_commit_task" in origin or self._environment.in_database(
                    found, origin
                )
        return "", False

    def _declared(self, call: Call, value: Value | None) -> Dispatch | None:
        patterns = self._environment.dispatchers
        if not patterns:
            return None
        names = {dotted(call.callee)}
        if value is not None and value[0] == "outside":
            names.add(value[1])
        if value is not None and value[0] in {"function", "method"}:
            names.add(_full_name(self._resolver, value[1], value[2]))
        if any(fnmatch(f".{name}", f"*.{one}") for name in names for one in patterns if name):
            return self._made("declared", call, None)
        return None

    def _by_name(self, call: Call, name: str, here: FunctionId) -> Dispatch | None:
        if name in BY_NAME:
            return self._made("celery", call, None)
        if name in QUEUE_WORDS | CRON_WORDS:
            base = dotted(call.callee[1]).lower()
            if any(word in base for word in ("queue", "scheduler")):
                given = self._resolver.value(call.args[0], *here) if call.args else None
                waits = self._environment.has_django_rq and self._rq_waits(call, here)
                return self._made("rq", call, given, waits=False if waits is False else None)
        return None

    def _rq_waits(self, call: Call, here: FunctionId) -> bool | None:
        """Return whether a call of a queue of django-rq waits, by its options or the settings."""
        callee = call.callee
        if callee[2:] and callee[2] not in QUEUES_THAT_WAIT:
            return False
        base = callee[1] if callee[0] == "attr" else ()
        set_to = self._resolver.project.assigns(*here).get(dotted(base), ())
        for made in (base, *set_to):
            given = dict(made[3]) if made[:1] == ("call",) else {}
            mode = mode_of({name.upper(): value[1] for name, value in given.items() if value[1:]})
            if mode:
                return None if mode == "request_finished" else mode != "auto"
        return self._environment.rq_waits

    def _of_task(self, call: Call, task: Value, method: str) -> Dispatch | None:
        library, waits = self.library(task[1], task[2])
        if method in SIGNATURES or method.endswith("()"):
            called = library == "celery" and call.callee[:1] in {("call",), ("any",)}
            return self._made("celery", call, task) if called else None
        if method in {"delay", "apply_async"} and library in {"", "celery"}:
            return self._made("celery", call, task)
        if method in OF_A_TASK.get(library, ()):
            return self._made(library, call, task, waits=waits)
        return None

    def _of_library(self, call: Call, origin: str, here: FunctionId) -> Dispatch | None:
        library = _library_that_sends(origin)
        if not library:
            return None
        waits: bool | None = self._environment.queue_in_database(library)
        waits = waits or (library == "procrastinate" and "contrib.django" in origin)
        if origin.startswith("django_rq.") and "cheduler" not in origin:
            waits = self._rq_waits(call, here)
        given = self._resolver.value(call.args[0], *here) if call.args else None
        return self._made(library, call, given, waits=waits)

    def _made(
        self, library: str, call: Call, task: Value | None, *, waits: bool | None = False
    ) -> Dispatch:
        target = (task[1], task[2]) if task and task[0] in {"function", "method"} else None
        values = (*_given(call.callee), *call.args, *(value for _, value in call.keywords))
        return Dispatch(library, _subject(call, library), target, waits, values)


def _library_that_sends(origin: str) -> str:
    """Return whose function a name outside the project is, "" if it sends nothing."""
    last = origin.rsplit(".", 1)[-1]
    queued = last in QUEUE_WORDS or (last in CRON_WORDS and "cheduler" in origin)
    lower = origin.lower()
    rules = (
        ("celery", last in BY_NAME),
        ("celery", origin.startswith("celery.") and origin.endswith(CANVAS)),  # chain(…)()
        ("django_q", origin.removeprefix("django_q.tasks.") in DJANGO_Q_SENDS),
        ("rq", queued and origin.startswith(("django_rq.", "rq.", "rq_scheduler."))),
        ("dramatiq", origin.endswith(PIPELINES)),
        ("procrastinate", origin.startswith(("procrastinate.", "?.")) and last in DEFERS),
        ("rq", last in QUEUE_WORDS and ("queue" in lower or "scheduler" in lower)),
    )
    return next((library for library, sends in rules if sends), "")


def _library_of(origin: str, text: str) -> str:
    """Return whose task a decorator makes; ``origin``: its full name where it is known."""
    lower, last = origin.lower(), origin.replace("()", "").rsplit(".", 1)[-1]
    for part, library in (
        ("huey", "huey"),
        ("dramatiq", "dramatiq"),
        ("procrastinate", "procrastinate"),
        ("django.tasks.", "tasks"),
        ("django_tasks.", "tasks"),
        ("aftercommit.", "aftercommit"),
    ):
        if part in lower and last not in {"once", "lock_task", "signal", "pre_execute"}:
            return library
    if last in {"shared_task", "periodic_task"} or (last == "task" and text != "task"):
        return "celery"
    if last == "task" and "celery" in lower:
        return "celery"
    if last == "actor":
        return "dramatiq"
    return "rq" if last == "job" and "rq" in lower else ""


def _subject(call: Call, library: str) -> str:
    text = dotted(call.callee)
    first = call.args[0] if call.args else ()
    by_argument = library in {"rq", "django_q", "declared"} and not text.endswith(".delay")
    by_argument = by_argument or text.endswith("send_task")
    what = dotted(first) or (str(first[1]) if first and first[0] == "const" else "")
    if by_argument and what:
        return f"{what} ({text}())" if text else what
    return f"{text or 'A task'}()"


def _full_name(resolver: Resolver, module: int, number: int) -> str:
    facts = resolver.project.function(module, number)
    owner = f"{resolver.project.class_(module, facts.owner).name}." if facts.owner >= 0 else ""
    return f"{resolver.project.dotted_path(module)}.{owner}{facts.name}"


def _given(expr: Expr) -> tuple[Expr, ...]:
    """Return the arguments in the callee of a canvas: of ``chain(task.s(order.pk))``."""
    if expr[:1] == ("attr",):
        return _given(expr[1])
    if expr[:1] == ("any",):  # first.s(order.pk) | second.s()
        return tuple(one for part in expr[1:] for one in _given(part))
    if expr[:1] != ("call",):
        return ()
    return (*_given(expr[1]), *expr[2], *(value for _, value in expr[3]))
