"""``@once``: the effects of a message happen once, even if a broker delivers it twice."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, overload

from django.db import transaction

from aftercommit.errors import ConfigurationError, NoMessageId
from aftercommit.store import default_alias, store_for

Function = TypeVar("Function", bound=Callable[..., Any])
Key = Callable[..., str]
LONGEST_ID = 255

_made_from: dict[str, object] = {}  # the code of consumers with a ``key``, by path


@overload
def once(function: Function) -> Function: ...
@overload
def once(
    *, using: str | None = None, key: Key | None = None, name: str | None = None
) -> Callable[[Function], Function]: ...
def once(
    function: Function | None = None,
    *,
    using: str | None = None,
    key: Key | None = None,
    name: str | None = None,
) -> Function | Callable[[Function], Function]:
    """Run a consumer in a transaction that also records the id of its message.

    Put it under the decorator of the library: ``@app.task``, ``@job``, ``@actor`` or
    ``@huey.task``. A copy of a message whose run has committed does nothing and returns
    None; a copy of a message whose run failed runs again. ``using`` is the database of the
    effects (default: where the router writes jobs); effects outside it may happen twice.
    ``key`` returns the id from the arguments. Without ``key`` the id is that of the
    library's message: for Celery and RQ always, for Dramatiq with its ``CurrentMessage``
    middleware, for Huey never.

    Consumers are told apart by their module and name, so that each of several consumers of one
    message has its effects. Those that one function makes have the same: give each a ``name`` (1
    to 255 characters) that stays when the process starts again.

    Raises ``ConfigurationError`` for a second consumer of that kind without a name, and
    ``NoMessageId`` if the id is not known, before the consumer is called.
    """

    def decorate(function: Function) -> Function:
        consumer = _consumer(function, name, has_key=key is not None)

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            message_id = key(*args, **kwargs) if key is not None else current_message_id()
            if not isinstance(message_id, str) or not 1 <= len(message_id) <= LONGEST_ID:
                raise NoMessageId(consumer=consumer, found=message_id)
            alias = using or default_alias()
            with transaction.atomic(using=alias):
                if not store_for(alias).receive(message_id=message_id, consumer=consumer):
                    return None
                return function(*args, **kwargs)

        return run  # type: ignore[return-value] # of the same signature

    return decorate if function is None else decorate(function)


def _consumer(function: Callable[..., Any], name: str | None, *, has_key: bool) -> str:
    """Return the name under which a consumer's messages are recorded."""
    if name is not None:
        if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_ID:
            raise ConfigurationError(f"@once: name: expected 1 to 255 characters, got {name!r}.")
        return name
    kind = function if hasattr(function, "__qualname__") else type(function)
    path = f"{kind.__module__}.{kind.__qualname__}"
    if len(path) > LONGEST_ID:
        raise ConfigurationError(_needs_name(path, "is longer than 255 characters"))
    # All functions that a factory makes, and the methods of several objects, have the same code
    # object. A module that is loaded again has new ones, and its consumers are those of before.
    code = getattr(function, "__code__", kind)
    if has_key and _made_from.get(path) is code:
        raise ConfigurationError(_needs_name(path, "is the path of another consumer, too"))
    if has_key:  # the id of a library's message is no other consumer's
        _made_from[path] = code
    return path


def _needs_name(path: str, problem: str) -> str:
    return (
        f"@once: {path} {problem}.\n"
        "Messages of the one would be taken for copies of the other's, and skipped.\n"
        "Fix: give each of them a name that stays the same: @once(key=..., name='orders')."
    )


def current_message_id() -> str | None:
    """Return the id of the message that this thread consumes, for whichever library."""
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
    """Return an attribute of a library if it is loaded; else it cannot be the caller."""
    return getattr(sys.modules.get(module), name, None)
