"""Dramatiq, Huey and django-q2, by the guard's adapters: they know how a dispatch is run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from aftercommit.guard import adapters, setup
from aftercommit.guard.dispatches import Dispatch, stop_intercepting
from aftercommit.guard.dispatches import intercept as ask
from aftercommit.guard.patches import restore
from aftercommit.relayed import is_kept
from aftercommit.reproduce.libraries import Library, Taker, patched

OTHERS = ("dramatiq", "huey", "django_q")


@contextmanager
def intercept(taker: Taker) -> Iterator[None]:
    """Take all messages and tasks."""

    def take(dispatch: Dispatch) -> Any:
        if dispatch.adapter == "django_q" and dispatch.eager:
            return None  # a call with ``sync=True``, which django-q2 makes itself
        kept = is_kept(dispatch.adapter, dispatch.when)
        if kept:
            result = dispatch.send()
        elif dispatch.prepare is None or dispatch.eager:
            result = None
        else:
            result = dispatch.prepare().result
        run = dispatch.body or _unknown
        taker.dispatch(dispatch.subject, run=run, held=dispatch.database, kept=kept)
        return result

    with _asked(_Interceptor(take)), _without_sync():
        yield


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all dispatches."""

    def noted(dispatch: Dispatch) -> Any:
        note()
        return dispatch.send()

    with _asked(_Interceptor(noted)):
        yield


class _Interceptor:
    """Is asked about each dispatch before the guard is, and answers for these libraries."""

    def __init__(self, take: Callable[[Dispatch], Any]) -> None:
        self._take = take

    def is_interested(self) -> bool:
        return True

    def __call__(self, dispatch: Dispatch, proceed: Callable[[], Any]) -> Any:
        ours = dispatch.adapter in OTHERS
        return self._take(dispatch._replace(send=proceed)) if ours else proceed()


@contextmanager
def _asked(interceptor: _Interceptor) -> Iterator[None]:
    adapters.notice(OTHERS)
    ask(interceptor)
    try:
        yield
    finally:
        stop_intercepting(interceptor)
        if setup._guard is None:  # it is not installed: nobody else needs the patches
            adapters.stop_noticing()
            restore()


@contextmanager
def _without_sync() -> Iterator[None]:
    """Let django-q2 enqueue what the settings of tests would let it run at once."""
    conf = sys.modules.get("django_q.conf")
    if conf is None:
        yield
        return
    with patched(conf.Conf, SYNC=False):
        yield


def _unknown() -> None:
    """Do nothing: the function is not known here."""


LIBRARY = Library(intercept=intercept, watch=watch)
