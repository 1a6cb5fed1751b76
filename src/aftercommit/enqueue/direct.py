"""Calls of a task without a worker: other backends pass Django's own context."""

from collections.abc import Callable, Sequence
from typing import Any

from django.utils.module_loading import import_string

from aftercommit._compat import TaskContext

# By name, as a store is: what declares tasks must not load the worker.
CONTEXT = "aftercommit.worker.detached.detached_context"


def with_our_context(
    task: Any, args: Sequence[Any]
) -> tuple[Sequence[Any], Callable[[Any], Any]]:
    """Return the arguments with a context of ours, and a function of the return value.

    Django's ``ImmediateBackend`` passes its own, which has no ``job_id`` and no ``commit()``.
    What such a block was given as return value is that of the call, as with a worker.
    """
    if not task.takes_context or not args or type(args[0]) is not TaskContext:
        return args, _as_it_is
    context = import_string(CONTEXT)(task, result=args[0].task_result)

    def value_of(returned: Any) -> Any:
        recorded = context.recorded
        return recorded.return_value if recorded.committed else returned

    return [context, *args[1:]], value_of


def _as_it_is(returned: Any) -> Any:
    return returned
