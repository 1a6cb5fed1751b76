"""Faults of transactions themselves: two at once, callbacks on another database, or lost."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import BaseDatabaseWrapper

from aftercommit.guard import waiting
from aftercommit.guard.dispatches import is_inside
from aftercommit.guard.patches import patch
from aftercommit.guard.transactions import Opened, listeners, open_here, some_open

if TYPE_CHECKING:
    from aftercommit.guard.watching import Guard

ADAPTER = "transactions"

# The database whose on_commit callbacks run in this thread.
committed: ContextVar[str | None] = ContextVar("aftercommit_guard_committed", default=None)
_guard: "Guard | None" = None


def notice(guard: "Guard | None") -> None:
    """Let a guard report them from now on; None: nobody."""
    global _guard  # noqa: PLW0603 - there is one in a process
    _guard = guard
    if guard is None:
        listeners.second = None
        return
    listeners.second = _second
    patch(BaseDatabaseWrapper, "on_commit", _registering)
    patch(BaseDatabaseWrapper, "run_and_clear_commit_hooks", _running)
    patch(BaseDatabaseWrapper, "close", _closing)


def _report(rule: str, alias: str, opened: Sequence[Opened]) -> None:
    if _guard is not None:
        _guard.report(rule, ADAPTER, repr(alias), opened, _guard.options.mode_of(ADAPTER))


def _second(alias: str, others: list[Opened]) -> None:
    if others and not is_inside():
        _report("AC402", alias, others)


def _registering(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def on_commit(self: Any, *args: Any, **options: Any) -> None:
        if some_open() and not waiting.is_ours.get() and not is_inside():
            opened = open_here()
            if opened and all(one.alias != self.alias for one in opened):
                _report("AC111", self.alias, opened)
        original(self, *args, **options)

    return on_commit


def _running(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def run_and_clear_commit_hooks(self: Any) -> None:
        if not self.run_on_commit:
            original(self)
            return
        token = committed.set(self.alias)
        try:
            original(self)
        finally:
            committed.reset(token)

    return run_and_clear_commit_hooks


def _closing(original: Callable[..., None]) -> Callable[..., None]:
    @wraps(original)
    def close(self: Any) -> None:
        if self.run_on_commit and some_open() and not self.closed_in_transaction:
            opened = [one for one in open_here() if one.connection is self]
            if opened:
                _report("AC403", self.alias, opened)
        original(self)

    return close
