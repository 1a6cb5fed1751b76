"""Waits for the ends of jobs: one thread and one connection for all who wait in a process."""

import os
import threading
import time
from collections.abc import Collection
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.db import Error

from aftercommit.options.checked import LONGEST_SPAN
from aftercommit.safe_log import log_error
from aftercommit.store import store_for
from aftercommit.values import NO_TIME

if TYPE_CHECKING:
    from aftercommit.store.waiting import Listener

POLL_IF_TOLD = timedelta(seconds=1)  # for ends that are not told: cancel, rescue, lost messages
POLL = timedelta(milliseconds=200)
POLL_AT_FIRST = timedelta(milliseconds=30)  # after somebody has begun to wait
AT_FIRST = timedelta(seconds=1)
LINGER = timedelta(seconds=2)  # with nobody waiting, until the connection is closed
AFTER_ERROR = timedelta(milliseconds=500)

Waiter = Future[None]


def longest(timeout: timedelta) -> float:
    """Return the seconds that somebody may wait; raises ``TypeError`` for what is no span."""
    if not isinstance(timeout, timedelta):
        raise TypeError(
            f"timeout: expected a timedelta, got {timeout!r}: write timedelta(seconds=...)."
        )
    return min(max(timeout, NO_TIME), LONGEST_SPAN).total_seconds()


class Waits:
    """Those who wait for jobs of one database alias; its thread lives while there are any."""

    def __init__(self, alias: str, *, listens: bool) -> None:
        self.alias = alias
        self._listens = listens
        self._lock = threading.Lock()
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None
        self._added_at = self._used_at = 0.0
        self._all_told = False  # the end of each job that is waited for will be told

    def add(self, job_id: UUID) -> Waiter:
        """Return a future that is done when the job has ended, or has no row any more."""
        waiter: Waiter = Future()
        with self._lock:
            self._added_at = self._used_at = time.monotonic()
            if self._thread is None:
                name = f"aftercommit-waits-{self.alias}"
                thread = threading.Thread(target=self._run, name=name, daemon=True)
                thread.start()  # it raises if the system has no thread to give
                self._thread = thread
            elif self._listener is not None:
                self._listener.interrupt()
            self._waiters.setdefault(job_id, set()).add(waiter)
        return waiter

    def discard(self, job_id: UUID, waiter: Waiter) -> None:
        """Wait no longer."""
        with self._lock:
            waiters = self._waiters.get(job_id, set())
            waiters.discard(waiter)
            if not waiters:
                self._waiters.pop(job_id, None)
            if not self._waiters and self._listener is not None:
                self._listener.interrupt()  # the thread may end

    def _run(self) -> None:
        while True:
            try:
                self._serve()
                return
            except Error:  # the database is away: each waiter has a timeout of its own
                time.sleep(AFTER_ERROR.total_seconds())
            except BaseException as error:
                self._give_up(error)
                return

    def _give_up(self, error: BaseException) -> None:
        """Tell those who wait why nobody listens any more; the next one begins anew."""
        log_error("The thread %s has failed", f"aftercommit-waits-{self.alias}", error=error)
        with self._lock:
            if self._thread is not threading.current_thread():
                return  # another one serves them already
            self._thread = None
            waiters = [one for some in self._waiters.values() for one in some]
            self._waiters.clear()
        for waiter in waiters:
            if waiter.set_running_or_notify_cancel():
                waiter.set_exception(error)

    def _serve(self) -> None:
        """Tell waiters until there have been none for a while."""
        store = store_for(self.alias)
        listener = store.open_listener(listens=self._listens)
        known: frozenset[UUID] = frozenset()
        next_look = 0.0
        try:
            while (waited := self._waited(listener)) is not None:
                new = waited - known
                if waited and (new or time.monotonic() >= next_look):
                    ended = store.ended_among(waited)
                    self._tell(ended)
                    live = waited - ended
                    told = store.ask_for_end(live) if live and (new or listener.tells) else ()
                    self._all_told = listener.tells and live <= set(told)
                    next_look = time.monotonic() + self._pause().total_seconds()
                known = waited
                self._tell(listener.wait(self._pause()))
        finally:
            with self._lock:
                self._listener = None
            with suppress(Error):
                store.close_listener(listener)

    def _waited(self, listener: "Listener") -> frozenset[UUID] | None:
        """Return the jobs that somebody waits for; None: the thread has to end."""
        with self._lock:
            self._listener = listener
            if self._waiters:
                self._used_at = time.monotonic()
            elif time.monotonic() - self._used_at > LINGER.total_seconds():
                self._thread = None
                return None
            return frozenset(self._waiters)

    def _pause(self) -> timedelta:
        if self._all_told:
            return POLL_IF_TOLD
        young = time.monotonic() - self._added_at < AT_FIRST.total_seconds()
        return POLL_AT_FIRST if young else POLL

    def _tell(self, ended: Collection[UUID]) -> None:
        for job_id in ended:
            with self._lock:
                waiters = self._waiters.pop(job_id, set())
            for waiter in waiters:
                if waiter.set_running_or_notify_cancel():
                    waiter.set_result(None)


_waits: dict[tuple[str, bool], Waits] = {}
_made = threading.Lock()


def waits_for(alias: str, *, listens: bool) -> Waits:
    """Return the waits of this process for a database alias; ``listens``: to NOTIFY."""
    with _made:
        return _waits.setdefault((alias, listens), Waits(alias, listens=listens))


def _begin_anew() -> None:
    """Forget, in a fork, threads and connections of the parent."""
    global _made  # noqa: PLW0603
    _made = threading.Lock()
    _waits.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_begin_anew)
