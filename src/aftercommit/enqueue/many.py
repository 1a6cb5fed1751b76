"""Many calls of one task at once."""

from collections.abc import Iterable
from typing import Any

from aftercommit._compat import BaseTask

Arguments = tuple[Any, ...] | list[Any] | dict[str, Any]


def enqueue_many(task: BaseTask, calls: Iterable[Arguments]) -> list[str]:
    """Enqueue one job of ``task``, of any class, for each call; see ``Task.enqueue_many``."""
    backend: Any = task.get_backend()
    if hasattr(backend, "enqueue_many"):
        ids: list[str] = backend.enqueue_many(task, calls)
        return ids
    split = [split_call(call, index) for index, call in enumerate(calls)]
    return [str(backend.enqueue(task, args, kwargs).id) for args, kwargs in split]


def split_call(call: Arguments, index: int) -> tuple[list[Any], dict[str, Any]]:
    """Return one of many calls as positional and keyword arguments.

    Raises ``TypeError`` for anything but a tuple, a list or a dict: a string would be
    read as a list of letters.
    """
    if isinstance(call, dict):
        return [], call
    if isinstance(call, (tuple, list)):
        return list(call), {}
    raise TypeError(
        f"calls[{index}]: expected a tuple or list of positional arguments or a dict of "
        f"keyword arguments, got {call!r}."
    )
