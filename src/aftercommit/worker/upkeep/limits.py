"""Lets parked jobs of limited tasks pass: when a run here has ended, and whatever was missed."""

import time
from collections.abc import Callable
from datetime import timedelta
from queue import Empty, SimpleQueue

from aftercommit.enqueue.fair import is_fair
from aftercommit.store.base import Store
from aftercommit.values import UNLIMITED, Claim, Limit
from aftercommit.worker.rules import RulesInForce

SWEEP_EVERY = timedelta(milliseconds=700)  # with the claim that follows, within a second
SWEEP_RARELY = timedelta(minutes=1)  # without limited tasks: some may have been until lately
AGAIN = timedelta(milliseconds=20)  # for a key that somebody else had locked
MOST_KEYS = 300  # in one step of a sweep
MOST_ENDED = 1_000  # keys of runs that have ended, in one step
PAUSE = 9.0  # times as long as a step, while there are more keys


class Passage:
    """The limits of one database alias; ``step`` is repeated by a thread of its own.

    The keys of runs that have ended are looked at at once. All keys with parked jobs are looked
    at again and again: a limit may be higher now, a job may have been deleted, and the worker
    that ended a run may have died before it let the next one pass. ``news`` is called when jobs
    have passed, ``ring`` ends the wait for the next step.
    """

    def __init__(self, store: Store, rules: RulesInForce, *, news: Callable[[], None]) -> None:
        self.ring: Callable[[], None] = lambda: None
        self._store = store
        self._rules = rules
        self._news = news
        self._freed: SimpleQueue[Claim] = SimpleQueue()
        self._again: dict[str, Limit] = {}  # were locked by others
        self._after = ""  # the key where the sweep goes on
        self._next_sweep = float("-inf")
        self._from_the_first = False  # a limit has changed: look at all keys now
        self._looking = True  # until the first sweep is over
        self._opened = False  # a slot is free for jobs that take turns, which claims let through

    @property
    def empty(self) -> bool:
        """Whether every run that has ended here was followed by what it allows."""
        return not self._looking and self._freed.empty()

    def freed(self, claim: Claim) -> None:
        """Note that the run of a claim under a limit has ended; from any thread.

        Call ``look_soon`` when all that were written together are noted: one look is for all.
        """
        self._freed.put(claim)

    def look_soon(self) -> None:
        """Let the jobs pass that runs have made room for; from any thread."""
        if not self._freed.empty():
            self.ring()

    def limits_changed(self) -> None:
        """Note that other limits hold from now on; from any thread."""
        self._from_the_first = True
        self.ring()

    def step(self) -> timedelta:
        """Look once; return when to look again."""
        self._looking = True
        try:
            return self._look()
        finally:  # a sweep that has failed keeps nobody from stopping
            self._looking = bool(self._again)

    def _look(self) -> timedelta:
        # What is in _again is looked at again if the database does not answer.
        limits = self._again = self._again | self._of_ended_runs()
        if self._from_the_first or time.monotonic() >= self._next_sweep:
            limits = self._again | self._sweep()
        self._again = limits
        if limits:
            passed, locked = self._store.let_pass(limits)
            self._again = {key: limits[key] for key in locked}
            if passed or self._opened:
                self._opened = False
                self._news()
        if self._from_the_first or not self._freed.empty():
            return timedelta(0)
        until_sweep = timedelta(seconds=max(self._next_sweep - time.monotonic(), 0))
        return min(AGAIN, until_sweep) if self._again else until_sweep

    def _of_ended_runs(self) -> dict[str, Limit]:
        found: dict[str, Limit] = {}
        limits: dict[str, Limit | None] = {}  # by task
        bounded: set[str] = set()
        while len(found) < MOST_ENDED:
            try:
                claim = self._freed.get_nowait()
            except Empty:
                break
            path = claim.task_path
            if path not in limits:
                limits[path] = self._rules.limit_of(path)
            limit = limits[path]
            # Without a limit, nobody of its key waits for a slot.
            if claim.limit_key is not None and limit is not None and limit != UNLIMITED:
                found[claim.limit_key] = limit
                bounded.add(path)
        self._opened = self._opened or any(map(is_fair, bounded))
        return found

    def _sweep(self) -> dict[str, Limit]:
        """Return the next keys with parked jobs of tasks that this process knows."""
        self._rules.refresh()
        if self._from_the_first:
            self._from_the_first, self._after = False, ""
        began = time.monotonic()
        limit_of = self._rules.limit_of
        keys = self._store.parked_keys(after=self._after, most=MOST_KEYS)
        found = {key: limit for key, path in keys if (limit := limit_of(path)) is not None}
        self._after = keys[-1][0] if len(keys) == MOST_KEYS else ""
        pause = SWEEP_EVERY if keys or self._rules.has_limits else SWEEP_RARELY
        if self._after:
            pause = min(timedelta(seconds=(time.monotonic() - began) * PAUSE), SWEEP_EVERY)
        elif pause is SWEEP_RARELY:
            self._store.connection.close()  # not needed again for long
        self._next_sweep = time.monotonic() + pause.total_seconds()
        return found
