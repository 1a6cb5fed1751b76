"""What of the context of a run belongs to its thread, and what follows it to another thread.

Django keeps caches and task backends in context variables. A new context would make each run
open its connections to the cache anew.
"""

import threading
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any

from django.core.cache import caches

from aftercommit._compat import task_backends

HANDLERS: tuple[Any, ...] = (caches, task_backends)


class _Kept(threading.local):
    def __init__(self) -> None:
        self.objects: dict[tuple[int, str], tuple[Any, Any]] = {}


_kept = _Kept()


def lend() -> None:
    """Give the objects of this thread to the context of a run, which begins."""
    for (number, alias), (store, one) in _kept.objects.items():
        if HANDLERS[number]._connections is store:  # else the setting has changed
            HANDLERS[number][alias] = one


def take_back() -> None:
    """Keep the objects that a run has made for the next run of this thread."""
    if not copy_context():  # no variables, so no objects: to ask for each costs much more
        return
    for number, handler in enumerate(HANDLERS):
        with suppress(Exception):  # the setting makes no sense; whoever uses it hears of it
            for alias in handler.settings:
                store = handler._connections
                if (one := getattr(store, alias, None)) is not None:
                    _kept.objects[number, alias] = (store, one)


def arrive(context: Context) -> None:
    """Let this thread find the context variables of a run that had another thread.

    asgiref marks its values (language, time zone, URLconf) with the thread that has set them.
    Caches stay behind: a client of a cache is for one thread.
    """
    here = threading.get_ident()
    for variable, value in list(context.items()):
        if type(value).__module__ == "asgiref.local" and hasattr(value, "thread_id"):
            variable.set(type(value)(here, value.data))
    for handler in HANDLERS:
        with suppress(Exception):
            for alias in handler.settings:
                if hasattr(handler._connections, alias):
                    del handler[alias]
