"""Lets jobs start that wait for their rate: when their time has come, and whatever was missed."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from queue import Empty, SimpleQueue

from aftercommit.enqueue.fair import is_fair
from aftercommit.enqueue.lookup import known_task
from aftercommit.gcra import Rate
from aftercommit.store.base import Store
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.upkeep.rate_pauses import RatePauses

SWEEP_EVERY = timedelta(milliseconds=700)  # a rate that was changed holds within a second
SWEEP_RARELY = timedelta(minutes=1)  # without rated tasks: some may have been until lately
AGAIN = timedelta(milliseconds=20)  # when somebody else had locked a key or a job of it,
AGAIN_AT_MOST = timedelta(seconds=1)  # and twice as long each time, up to this
SOON = 3  # such times, others are taken as workers, who are ready in a moment
LOOK_AT_LEAST = timedelta(minutes=1)  # at a key, whatever its row has said
APART = timedelta(milliseconds=5)  # at most: the looks of several workers at one key
MOST_KEYS = 300  # in one step, and in one step of a sweep


@dataclass(slots=True)
class Known:
    """A rate key with jobs in its line, as far as this process knows."""

    task_path: str
    rate: Rate | None  # when ``at`` was found
    at: float  # monotonic: the next look
    tries: int = 0  # since the key, and all that may start of it, was last found unlocked

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self.at <= time.monotonic()

    @property
    def is_pending(self) -> bool:
        """Whether a job of it may start now, as soon as somebody looks.

        Not if a transaction has a job locked for long: nobody knows when that ends.
        """
        return self.tries <= SOON if self.tries else self.is_due

    def was_locked(self) -> None:
        """Look again, later each time."""
        self.at = _in(min(AGAIN * 2**self.tries, AGAIN_AT_MOST))
        self.tries = min(self.tries + 1, 2 * SOON)

    def was_seen(self, rate: Rate | None, wait: timedelta) -> None:
        """Look again when it has been so long."""
        self.rate, self.at, self.tries = rate, _in(wait), 0


class RatePassage:
    """The rates of one database alias; ``step`` is repeated by a thread of its own.

    It knows when each key that it has seen used up has its next token, and looks at the key then.
    A sweep finds the lines of all other keys: the worker that has parked their jobs may be
    dead. ``news`` is called when jobs were let through, ``ring`` ends the wait for the next step.
    """

    def __init__(self, store: Store, rules: RulesInForce, *, news: Callable[[], None]) -> None:
        self.ring: Callable[[], None] = lambda: None
        self.pauses = RatePauses(store, ring=self._ring_now)
        self._store = store
        self._rules, self._rates = rules, rules.rates
        self._news = news
        self._met: SimpleQueue[tuple[str, Known]] = SimpleQueue()
        self._keys: dict[str, Known] = {}
        self.locked_met = 0  # how often a claim has met a key that others had locked
        self._claim_at: float | None = None  # when a key that others had locked may be free
        self._after = ""  # the key where the sweep goes on
        self._next_sweep = float("-inf")
        self._swept = False  # once at least
        self._from_the_first = False  # a rate has changed: look at all keys now

    @property
    def empty(self) -> bool:
        """Whether every job that may start by what this process knows was let through."""
        known = tuple(self._keys.values())
        settled = self._swept and self._claim_at is None
        return settled and self._met.empty() and not any(one.is_pending for one in known)

    def _ring_now(self) -> None:
        self.ring()

    def line_met(self, key: str, task_path: str, wait: timedelta | None) -> None:
        """Note that jobs wait for a key, and how long; from any thread.

        None: they are due, but somebody else had locked the key. The next claim may have it.
        """
        if wait is None:
            self.locked_met += 1
            self._claim_at = _in(AGAIN)
        else:
            self._met.put((key, Known(task_path, self._rates.rate_of(task_path), _in(wait))))
        self.ring()

    def rates_changed(self) -> None:
        """Note that other rates hold from now on; from any thread."""
        self._from_the_first = True
        self.ring()

    def step(self) -> timedelta:
        """Look once; return when to look again."""
        try:
            self.pauses.write()
            self._note_met()
            if self._from_the_first or time.monotonic() >= self._next_sweep:
                self._sweep()
        finally:  # a sweep that has failed keeps nobody from stopping
            self._swept = True
        if due := [key for key, one in self._keys.items() if one.is_due]:
            self._look_at(due[:MOST_KEYS])
        if self._claim_at is not None and self._claim_at <= time.monotonic():
            self._claim_at = None
            self._news()
        looks = [one.at for one in self._keys.values()]
        earliest = min([*looks, self._claim_at or self._next_sweep])
        if not self._met.empty():
            return timedelta(0)
        return timedelta(seconds=max(min(earliest, self._next_sweep) - time.monotonic(), 0))

    def _note_met(self) -> None:
        while True:
            try:
                key, known = self._met.get_nowait()
            except Empty:
                return
            self._keys[key] = known

    def _look_at(self, keys: list[str]) -> None:
        rates = {key: self._rates.rate_of(self._keys[key].task_path) for key in keys}
        passed, waits = self._store.let_start(rates)
        # Jobs that take turns wait in other lines, and are let through by claims.
        if passed or any(is_fair(self._keys[key].task_path) for key in keys):
            self._news()
        for key in keys:
            if key not in waits:
                self._keys[key].was_locked()
            elif (wait := waits[key]) is None:
                del self._keys[key]
            else:
                self._keys[key].was_seen(rates[key], wait)

    def _sweep(self) -> None:
        """Find the next keys with lines, of tasks that this process knows."""
        self._rules.refresh()
        if self._from_the_first:
            self._from_the_first, self._after = False, ""
        rate_of = self._rates.rate_of
        found = self._store.rate_lines(after=self._after, most=MOST_KEYS)
        for key, path in found:
            known = self._keys.get(key)
            if known_task(path) is not None and (known is None or known.rate != rate_of(path)):
                self._keys[key] = Known(path, rate_of(path), time.monotonic())
        self._after = found[-1][0] if len(found) == MOST_KEYS else ""
        pause = SWEEP_EVERY if found or self._rates.are_there else SWEEP_RARELY
        self._next_sweep = time.monotonic() + pause.total_seconds()


def _in(wait: timedelta) -> float:
    """Return when to look; not all workers at once, or each would let one through."""
    apart = random.uniform(0, min(APART, wait / 10).total_seconds())  # noqa: S311
    return time.monotonic() + min(wait, LOOK_AT_LEAST).total_seconds() + apart
