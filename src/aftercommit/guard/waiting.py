"""What waits for several transactions."""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any

from aftercommit.guard.transactions import Opened

# Inside what this module itself hands to on_commit(): nobody's mistake.
is_ours: ContextVar[bool] = ContextVar("aftercommit_guard_is_ours", default=False)


def after_commit_of_all(opened: Sequence[Opened], call: Callable[[], Any]) -> None:
    """Call when all of these transactions have committed; never, if one of them rolls back."""
    left = len(opened)

    def committed() -> None:
        nonlocal left
        left -= 1
        if not left:
            call()

    token = is_ours.set(True)
    try:
        for one in opened:
            one.connection.on_commit(committed)
    finally:
        is_ours.reset(token)
