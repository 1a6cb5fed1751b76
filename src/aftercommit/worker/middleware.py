"""The functions of ``OPTIONS["middleware"]``, as one function around the call of a task."""

from collections.abc import Callable
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async

from aftercommit.middleware import JobRun
from aftercommit.options.conf import BackendOptions
from aftercommit.options.functions import imported

Middleware = Callable[[JobRun], Any]


def middleware_of(options: BackendOptions, *, is_async: bool) -> Middleware | None:
    """Return all middleware of a backend as one function; None: it has none.

    Each factory is called once, here, with what is inside it. Sync middleware around an async
    task runs in a thread, and async middleware around a sync one in an event loop of its own,
    unless it is ``sync_and_async_middleware`` in Django's sense.
    """
    if not options.middleware:
        return None
    inner: Middleware = _aenter if is_async else _enter
    inner_is_async = is_async
    for factory in reversed(imported("middleware", options.middleware)):
        takes_sync = getattr(factory, "sync_capable", True)
        takes_async = getattr(factory, "async_capable", False)
        becomes_async = takes_async and (inner_is_async or not takes_sync)
        inner = factory(_adapted(inner, inner_is_async, becomes_async))
        inner_is_async = becomes_async
    return _adapted(inner, inner_is_async, is_async)


def _adapted(call: Middleware, is_async: bool, becomes_async: bool) -> Middleware:
    if is_async == becomes_async:
        return call
    return sync_to_async(call) if becomes_async else async_to_sync(call)


def _enter(run: JobRun) -> Any:
    return run._enter()


async def _aenter(run: JobRun) -> Any:
    return await run._enter()
