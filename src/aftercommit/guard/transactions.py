"""Which transactions are open here that the user has begun, and where each was opened.

``Atomic.__enter__`` and ``__exit__`` are wrapped, so that asking costs next to nothing: mostly
none is open. What ``TestCase`` opens around a test does not count. A coroutine that
``async_to_sync`` runs inside a transaction belongs to it, although its thread is another one;
that is why the transactions are in a context variable.
"""

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ContextDecorator, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from types import CodeType, FrameType
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.transaction import Atomic

from aftercommit.guard.frames import Step, steps
from aftercommit.guard.patches import patch

GENERATOR = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
Key = tuple[int, str]  # thread and alias: each thread has its own connections
# The code that runs a function with ``@atomic``; its caller is of less interest.
DECORATED: CodeType = next(
    one
    for one in ContextDecorator.__call__.__code__.co_consts
    if isinstance(one, CodeType) and one.co_name == "inner"
)


@dataclass(slots=True, eq=False)
class Opened:
    """A transaction that is open."""

    alias: str
    thread: int
    # The frame that opened it, which runs until the end of its block, and its instruction then.
    # Its callers are looked up only for a report.
    frame: FrameType | None = field(default=None, repr=False)
    offset: int = 0
    callers: Sequence[Step] = ()  # of a generator: nobody calls it while its block runs
    level: int = 1  # blocks that are entered, with those inside
    known: Any = field(default=None, repr=False)  # the connection, once somebody has asked

    @property
    def stack(self) -> list[Step]:
        """Return where it was opened, the innermost first."""
        if self.frame is None:
            return []
        return [(self.frame.f_code, self.offset), *(self.callers or steps(self.frame.f_back))]

    @property
    def function(self) -> Callable[..., Any] | None:
        """Return what ``@atomic`` or ATOMIC_REQUESTS decorates, if it was opened so."""
        if self.frame is None or self.frame.f_code is not DECORATED:
            return None
        return self.frame.f_locals.get("func")

    @property
    def connection(self) -> Any:
        """Return Django's connection; None, if that is another thread's and nobody has asked."""
        if self.known is None and self.thread == threading.get_ident():
            self.known = connections[self.alias]
        return self.known

    @property
    def is_open(self) -> bool:
        """Return whether it has not ended in a way that nobody told us about."""
        blocks = None if self.connection is None else self.connection.atomic_blocks
        return blocks is None or any(not one._from_testcase for one in blocks)


# Replaced whenever it is empty: contexts that were copied meanwhile keep the old one.
_open: ContextVar[dict[Key, Opened] | None] = ContextVar("aftercommit_guard_open", default=None)


@dataclass(slots=True)
class Listeners:
    """What is called when the outermost block of the user is entered or left."""

    # Before a transaction is opened beside others of this thread: its alias, and those.
    second: Callable[[str, list[Opened]], None] | None = None
    left: Callable[[], None] | None = None  # no transaction is open any more


listeners = Listeners()


def track() -> None:
    """Note transactions from now on."""
    patch(Atomic, "__enter__", _entering)
    patch(Atomic, "__exit__", _leaving)


def some_open() -> bool:
    """Return whether a transaction is open here. Fast, and seldom wrong: see ``open_here``."""
    return bool(_open.get())


def open_here() -> list[Opened]:
    """Return the transactions that are open here, the oldest first."""
    found = _open.get()
    if not found:
        return []
    for key, one in list(found.items()):
        if not one.is_open:  # closed behind our back: the connection was replaced
            found.pop(key, None)
    return list(found.values())


@contextmanager
def unseen() -> Iterator[None]:
    """Forget the transactions that are open in this block: another process would have none."""
    token = _open.set(None)
    try:
        yield
    finally:
        _open.reset(token)


def _entering(original: Callable[[Atomic], None]) -> Callable[[Atomic], None]:
    @wraps(original)
    def __enter__(self: Any) -> None:
        if self._from_testcase:
            original(self)
            return
        alias = self.using or DEFAULT_DB_ALIAS
        key = threading.get_ident(), alias
        known = _open.get()
        opened = known.get(key) if known else None
        if opened is not None:
            original(self)  # a savepoint
            opened.level += 1
            return
        if known and listeners.second is not None:
            listeners.second(alias, [one for one in open_here() if one.thread == key[0]])
        original(self)
        if not known:
            known = {}
            _open.set(known)
        known[key] = _opened(key, sys._getframe(1))

    return __enter__


def _opened(key: Key, frame: FrameType) -> Opened:
    callers = steps(frame.f_back) if frame.f_code.co_flags & GENERATOR else ()
    return Opened(key[1], key[0], frame, frame.f_lasti, callers)


def _leaving(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def __exit__(self: Any, *error: Any) -> Any:
        known = _open.get()
        if not known or self._from_testcase:
            return original(self, *error)
        # Before the original: its on_commit callbacks run after the commit.
        key = threading.get_ident(), self.using or DEFAULT_DB_ALIAS
        opened = known.get(key)
        if opened is not None:
            opened.level -= 1
            if not opened.level:
                del known[key]
        try:
            return original(self, *error)
        finally:
            if not known and listeners.left is not None:
                listeners.left()

    return __exit__
