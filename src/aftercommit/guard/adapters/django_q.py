"""django-q2: every task is packed, signed, and passed to its broker's ``enqueue``."""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from pydoc import locate
from types import ModuleType
from typing import Any

from aftercommit.guard.dispatches import Dispatch, Later, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch_instances

_next: ContextVar[dict[str, Any] | None] = ContextVar("aftercommit_guard_django_q", default=None)


def install(on_import: OnImport) -> None:
    """Notice the tasks of all brokers."""
    on_import.when("django_q.signals", _listen)
    on_import.when(
        "django_q.brokers", lambda module: patch_instances(module.Broker, "enqueue", _sending)
    )


def _listen(module: ModuleType) -> None:
    module.pre_enqueue.connect(_remember, dispatch_uid="aftercommit.guard.django_q")


def _remember(task: dict[str, Any], **_: Any) -> None:
    _next.set(task)
    if task.get("sync") and someone_is_interested():  # it never reaches a broker
        passing(Dispatch(adapter="django_q", subject=_name(task), send=lambda: None, eager=True))


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, package: str) -> Any:
        if not someone_is_interested():
            return original(self, package)
        task = _next.get() or {}
        put = partial(original, self, package)
        return passing(
            Dispatch(
                adapter="django_q",
                subject=_name(task),
                send=put,
                prepare=lambda: Later(task.get("id"), put),
                body=_body(task),
                database=_database(self),
            )
        )

    return enqueue


def _name(task: dict[str, Any]) -> str:
    function = task.get("func", "A task of django-q2")
    if isinstance(function, str):
        return function
    return f"{function.__module__}.{function.__qualname__}"


def _body(task: dict[str, Any]) -> Callable[[], Any] | None:
    given = task.get("func")
    if not callable(given) and not isinstance(given, str):
        return None

    def run() -> None:
        function: Any = locate(given) if isinstance(given, str) else given
        if function is None:
            raise ValueError(f"There is no function {given!r}")
        function(*task["args"], **task["kwargs"])
        if task.get("chain"):  # the rest follows when the first has succeeded
            sys.modules["django_q.tasks"].async_chain(task["chain"], group=task.get("group"))

    return run


def _database(broker: Any) -> str | None:
    """Return the database of the broker that keeps tasks in one, or None."""
    if type(broker).__module__ != "django_q.brokers.orm":
        return None
    return str(broker.get_connection().db)
