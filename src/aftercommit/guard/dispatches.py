"""The one point that everything passes which leaves the process: the adapters call it.

An interceptor is asked before anything is sent, and may send it, refuse it with an exception, or
keep it for later. The guard is one; tools that run the body of a task at the moment of its
dispatch are others. Nothing here knows Django.
"""

from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Dispatch(NamedTuple):  # made at each dispatch inside a transaction: a fast kind of value
    """Something that is about to leave the process."""

    adapter: str  # who has noticed it: "celery", "http" …
    subject: str  # what is sent: the name of a task, "POST https://…"
    # Sends it, and returns what the caller gets.
    send: Callable[[], Any]
    # Returns a function that sends it later, with the arguments of now. None: it cannot wait.
    prepare: "Callable[[], Later] | None" = None
    # Runs the task here, as a worker would; None: it is no task, or its function is not known.
    body: Callable[[], Any] | None = None
    # The library runs the task at once, in this thread (``task_always_eager`` and the like).
    eager: bool = False
    # It goes into a table of this database, in its transaction. None: it leaves the process.
    database: str | None = None
    # What a task says about the relay: "never" and the like, or None.
    when: str | None = None
    backend: str | None = None  # the alias in TASKS, of a task of django.tasks


@dataclass(frozen=True, slots=True)
class Later:
    """A dispatch that waits: what the caller gets meanwhile, and how it is sent then."""

    result: Any
    send: Callable[[], Any]


class Interceptor(Protocol):
    """Is asked about each dispatch."""

    def is_interested(self) -> bool:
        """Return whether it wants to see a dispatch of this thread now. Fast: asked each time."""

    def __call__(self, dispatch: Dispatch, proceed: Callable[[], Any]) -> Any:
        """Return what the caller gets, usually ``proceed()``, which sends it; or raise."""


_interceptors: tuple[Interceptor, ...] = ()
# Inside a dispatch: what a library does to send it (Redis, HTTP) is not another one.
_inside: ContextVar[bool] = ContextVar("aftercommit_inside_dispatch", default=False)


def intercept(interceptor: Interceptor) -> None:
    """Ask an interceptor from now on; the one that came last is asked first."""
    global _interceptors  # noqa: PLW0603 - read at each dispatch, so it is as plain as can be
    if interceptor not in _interceptors:
        _interceptors = (interceptor, *_interceptors)


def stop_intercepting(interceptor: Interceptor) -> None:
    """Do not ask it any more."""
    global _interceptors  # noqa: PLW0603
    _interceptors = tuple(one for one in _interceptors if one is not interceptor)


def someone_is_interested() -> bool:
    """Return whether a dispatch must be described; if not, the adapter sends it by itself."""
    for one in _interceptors:
        if one.is_interested():
            return not _inside.get()
    return False


def passing(dispatch: Dispatch) -> Any:
    """Ask the interceptors; return what the caller gets."""
    proceed = dispatch.send if dispatch.eager else partial(_quietly, dispatch.send)
    for one in reversed(_interceptors):
        if one.is_interested():
            proceed = partial(one, dispatch, proceed)
    return proceed()


def _quietly(send: Callable[[], Any]) -> Any:
    token = _inside.set(True)
    try:
        return send()
    finally:
        _inside.reset(token)


def is_inside() -> bool:
    """Return whether this thread is sending something that was noticed already."""
    return _inside.get()


@contextmanager
def inside_dispatch(inside: bool = True) -> "Iterator[None]":
    """Take what happens in this block for a part of one dispatch; or, if False, not any more."""
    token = _inside.set(inside)
    try:
        yield
    finally:
        _inside.reset(token)
