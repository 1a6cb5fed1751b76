"""Huey: every way to enqueue a task ends in ``Huey.enqueue``."""

import copy
from collections.abc import Callable
from functools import partial, wraps
from types import ModuleType
from typing import Any

from aftercommit.guard.dispatches import Dispatch, Later, passing, someone_is_interested
from aftercommit.guard.patches import OnImport, patch


def install(on_import: OnImport) -> None:
    """Notice the tasks of all instances."""
    on_import.when("huey.api", _patch)


def _patch(module: ModuleType) -> None:
    patch(module.Huey, "enqueue", _sending)


def _sending(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, task: Any) -> Any:
        # A group or a chord calls this again for its members.
        if not someone_is_interested() or not hasattr(task, "priority"):
            return original(self, task)
        return passing(
            Dispatch(
                adapter="huey",
                subject=task.name,
                send=lambda: original(self, task),
                prepare=lambda: _prepare(original, self, task),
                body=task.execute,
                eager=self._immediate,
                when=getattr(task, "aftercommit", None),
            )
        )

    return enqueue


class _Shelf:
    """Replaces Huey's storage: keeps what would have been put into the queue."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.kept: list[Callable[[], Any]] = []

    def enqueue(self, data: bytes, priority: Any = None) -> None:
        self.kept.append(partial(self._storage.enqueue, data, priority))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)


def _prepare(original: Callable[..., Any], instance: Any, task: Any) -> Later:
    shelved = copy.copy(instance)
    shelved.storage = shelf = _Shelf(instance.storage)
    announced: list[tuple[Any, ...]] = []
    shelved._emit = lambda *event: announced.append(event)
    result = original(shelved, task)

    def send() -> None:
        for event in announced:
            instance._emit(*event)
        for put in shelf.kept:
            put()

    return Later(result, send)
