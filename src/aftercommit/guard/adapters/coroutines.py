"""Methods that are coroutines: what they do while they are awaited is one dispatch."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from aftercommit.guard.dispatches import (
    Dispatch,
    inside_dispatch,
    passing,
    someone_is_interested,
)

Call = Callable[[tuple[Any, ...], dict[str, Any]], str]


def noticing(adapter: str, subject: Call) -> Callable[[Any], Any]:
    """Return what wraps a method; ``subject`` names what a call of it with these arguments sends.

    ``async_to_sync`` runs such a method in another thread, in the context of its caller: there
    the guard finds the transaction that is open around it.
    """

    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        async def send(self: Any, *args: Any, **options: Any) -> Any:
            if not someone_is_interested():
                return await original(self, *args, **options)

            async def go() -> Any:
                with inside_dispatch():
                    return await original(self, *args, **options)

            dispatch = Dispatch(adapter=adapter, subject=subject(args, options), send=go)
            return await passing(dispatch)

        return send

    return wrap
