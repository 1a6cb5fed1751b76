"""Makes the jobs of periodic tasks when they are due. Any number of workers may do so at once."""

import time
from collections.abc import Callable, Iterable
from datetime import timedelta

from django.db import Error

from aftercommit.schedules.declared import GONE_AFTER, SEEN_EVERY, check_in, declared_in
from aftercommit.schedules.ticking import tick_due
from aftercommit.store.base import Store
from aftercommit.values import NO_TIME

LOOK_EVERY = timedelta(seconds=1)  # with a schedule in the table
LOOK_RARELY = timedelta(minutes=1)  # without; PostgreSQL tells of the first one
WITHOUT_TABLE = timedelta(seconds=10)
LEFT_ALONE = timedelta(minutes=1)  # schedules whose moment could not become a job here
LEFT_BUSY = timedelta(seconds=5)  # schedules that wait for an open transaction


class Scheduler:
    """The schedules of one database alias; ``step`` is repeated by a thread.

    ``news`` is called when jobs were made, ``ticked`` with how late each moment was decided.
    """

    def __init__(
        self,
        store: Store,
        *,
        news: Callable[[], None],
        ticked: Callable[[Iterable[timedelta]], None] = lambda _late: None,
    ) -> None:
        self.ring: Callable[[], None] = lambda: None
        self._store = store
        self._news = news
        self._ticked = ticked
        self._digests: list[str] = []  # of what this process declares
        self._there_are_some = False
        self._left: dict[str, float] = {}  # schedules that are left to others, and until when
        self._next_look = self._next_check_in = float("-inf")
        self._due = float("inf")
        self._in_contact_since = self._checked_in_at = float("-inf")

    def look_soon(self) -> None:
        """Look with the next step: schedules were changed. From any thread."""
        self._next_look = float("-inf")
        self.ring()

    def step(self) -> timedelta:
        """Make what is due, and look when the next is; return when to do it again."""
        try:
            self._do()
        except Error:
            if self._store.has_schedules():
                raise
            self._next_look = self._next_check_in = _in(WITHOUT_TABLE)
        wake_at = min(self._next_look, self._due, self._next_check_in)
        return timedelta(seconds=max(wake_at - time.monotonic(), 0))

    def _do(self) -> None:
        if time.monotonic() >= self._next_check_in:
            self._check_in()
        if time.monotonic() >= self._next_look:
            self._look()
        if time.monotonic() >= self._due:
            self._tick()

    def _look(self) -> None:
        """Ask for the next moment: one statement."""
        found = self._store.next_moment()
        self._there_are_some = found is not None
        if found is None:
            self._next_look, self._due = _in(LOOK_RARELY), float("inf")
            self._store.connection.close()  # not needed again for long
            return
        self._next_look = _in(LOOK_EVERY)
        self._due = _in(max(found[0] - found[1], NO_TIME))

    def _tick(self) -> None:
        """Make what is due."""
        now = time.monotonic()
        self._left = {name: end for name, end in self._left.items() if end > now}
        done = tick_due(self._store, digests=self._digests, but=self._left)
        self._left |= dict.fromkeys(done.failed, _in(LEFT_ALONE))
        self._left |= dict.fromkeys(done.busy, _in(LEFT_BUSY))
        if done.ticked:
            self._news()
            self._ticked([one.late for one in done.ticked])
        if done.is_full:
            return  # there may be more: the next step begins at once
        # Without a tick: others are about to make it, or it is one that only others declare.
        self._due = float("inf")
        if done.ticked:
            self._look()

    def _check_in(self) -> None:
        """Say what this process declares, and end what nobody declares."""
        now = time.monotonic()
        self._next_check_in = _in(SEEN_EVERY)
        if now - self._checked_in_at > 2 * SEEN_EVERY.total_seconds():
            self._in_contact_since = now  # the others may not have been, and check in soon
        mine = declared_in(self._store.alias)
        self._digests = [one.digest for one in mine.values()]
        if mine or self._there_are_some:
            lasted = timedelta(seconds=now - self._in_contact_since)
            check_in(self._store, mine, ends_others=lasted > GONE_AFTER)
        self._checked_in_at = now


def _in(wait: timedelta) -> float:
    return time.monotonic() + wait.total_seconds()
