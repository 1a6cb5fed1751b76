"""What hands tasks to a worker, by library: each is asked only if the project has it."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

from django.apps import apps

from aftercommit.reproduce.play import Drain

# What a project has loaded if it uses a library, and the module here that intercepts it.
KNOWN = {
    "celery": "celery",
    "django.tasks": "django_tasks",
    "django_tasks": "django_tasks",
    "rq": "rq",
    "dramatiq": "others",
    "huey": "others",
    "django_q": "others",
    "procrastinate": "procrastinate",
}


class Taker(Protocol):
    """Takes what is dispatched; see ``aftercommit.reproduce.play.Play``."""

    def dispatch(
        self,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        run: Callable[[], Any] | None,
        id: str | None = None,
        held: str | None = None,
        kept: bool = False,
    ) -> None:
        """Take a task. ``run``: raises what the task raises; None: our own queue has the job.

        ``held``: the alias of a database in which the library stores the task, so that it is
        part of a transaction there. ``kept``: our relay keeps the message; see ``publish``.
        """

    def keep(self, id: str) -> None:
        """Note the id of a message that the relay keeps just now."""

    def publish(self, id: str) -> None:
        """Take a task that the relay has kept: now its message is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """One library: how its dispatches are taken, and how they are only noted."""

    # In the block dispatches go to ``taker`` and to no broker. Yields what runs jobs that are
    # stored in a database, or None.
    intercept: Callable[[Taker], AbstractContextManager[Drain | None]]
    # In the block each dispatch is noted, and happens as always.
    watch: Callable[[Callable[[], None]], AbstractContextManager[None]]


def loaded() -> list[Library]:
    """Return the libraries that the project has loaded."""
    names = dict.fromkeys(module for root, module in KNOWN.items() if root in sys.modules)
    if apps.is_installed("aftercommit"):
        names["own"] = None
    return [import_module(f"{__name__}.{name}").LIBRARY for name in names]


@contextmanager
def intercepted(taker: Taker, libraries: Sequence[Library]) -> Iterator[list[Drain]]:
    """Let all dispatches of the block go to ``taker``; yield what runs jobs in databases."""
    with ExitStack() as stack:
        drains = [stack.enter_context(one.intercept(taker)) for one in libraries]
        yield [one for one in drains if one is not None]


@contextmanager
def watched(note: Callable[[], None], libraries: Sequence[Library]) -> Iterator[None]:
    """Note all dispatches of the block."""
    with ExitStack() as stack:
        for library in libraries:
            stack.enter_context(library.watch(note))
        yield


@contextmanager
def noted(note: Callable[[], None], owner: Any, *names: str) -> Iterator[None]:
    """Note each call of these functions of a class in the block; they do what they always do."""

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            note()
            return original(*args, **options)

        return call

    with patched(owner, **{name: noting(getattr(owner, name)) for name in names}):
        yield


@contextmanager
def patched(owner: Any, **attributes: Any) -> Iterator[None]:
    """Set attributes of a class or an object in the block."""
    missing = object()
    before = {name: vars(owner).get(name, missing) for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is missing:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
