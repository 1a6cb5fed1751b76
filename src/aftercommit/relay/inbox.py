"""``@once``: a message that a broker delivers twice has its effects once."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload

from django.db import transaction

from aftercommit.errors import NoMessageId
from aftercommit.store import default_alias, store_for

Function = TypeVar("Function", bound=Callable[..., Any])
Key = Callable[..., str]
LONGEST_ID = 255


@overload
def once(function: Function) -> Function: ...
@overload
def once(
    *, using: str | None = None, key: Key | None = None
) -> Callable[[Function], Function]: ...
def once(
    function: Function | None = None, *, using: str | None = None, key: Key | None = None
) -> Function | Callable[[Function], Function]:
    """Run a consumer in a transaction that also notes the id of its message.

    Put it under the decorator of the library: ``@app.task``, ``@job``, ``@actor`` or
    ``@huey.task``. A copy of a message whose run has committed does nothing and returns
    None; one whose run failed runs again. ``using`` is the database of the effects
    (default: where the router writes jobs); what is not in it may happen twice. ``key``
    returns the id from the arguments; without it the id is that of the library's
    message: Celery's and RQ's by themselves, Dramatiq's with its ``CurrentMessage``
    middleware, Huey's never.

    Raises ``NoMessageId`` if nobody knows the id, and before anything has been done.
    """

    def decorate(function: Function) -> Function:
        consumer = f"{function.__module__}.{function.__qualname__}"

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            message_id = key(*args, **kwargs) if key is not None else current_message_id()
            if not message_id or len(message_id) > LONGEST_ID:
                raise NoMessageId(consumer=consumer, found=message_id)
            alias = using or default_alias()
            with transaction.atomic(using=alias):
                if not store_for(alias).receive(message_id=message_id, consumer=consumer):
                    return None
                return function(*args, **kwargs)

        return run  # type: ignore[return-value] # of the same signature

    return decorate if function is None else decorate(function)


def current_message_id() -> str | None:
    """Return the id of the message that this thread's consumer is at, whatever the library."""
    return _celery() or _rq() or _dramatiq()


def _celery() -> str | None:
    task = _of("celery", "current_task")
    return task.request.id if task else None


def _rq() -> str | None:
    get_current_job = _of("rq", "get_current_job")
    job = get_current_job() if get_current_job else None
    return job.id if job else None


def _dramatiq() -> str | None:
    middleware = _of("dramatiq.middleware", "CurrentMessage")
    message = middleware.get_current_message() if middleware else None
    return message.message_id if message else None


def _of(module: str, name: str) -> Any:
    """Return something of a library, if it is loaded: else it has not called us."""
    return getattr(sys.modules.get(module), name, None)
