"""What the processes of a worker have counted by task, on its way to the port of the worker.

A process hands on what it has counted with each heartbeat, in parts that fit into a socket's
buffer; what is refused is handed on later, added to what has come since.
"""

import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from aftercommit.tallies import LAST, OTHER, Key, Tally, Times

MOST_TASKS, MOST_QUEUES = 200, 100  # that are counted by name, of each database
ONE_PART = 20  # rows; of names of 255 characters in any language they have 50 KB

Row = list[Any]  # of values of JSON


class Place(NamedTuple):
    """What is counted together: the database alias, and the key there."""

    using: str
    key: Key


class Counts:
    """Adds up tallies; from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tallies: dict[Place, Tally] = {}
        self._tasks: dict[str, set[str]] = {}
        self._queues: dict[str, set[str]] = {}

    def add(self, using: str, counted: Iterable[tuple[Key, Tally]]) -> None:
        """Add what was counted in a database."""
        with self._lock:
            for key, tally in counted:
                self._add(Place(using, key), tally)

    def add_rows(self, rows: Iterable[Row]) -> None:
        """Add what another one has handed on; what is no row of it raises, and counts nothing."""
        added = [_read(one) for one in rows]
        with self._lock:
            for place, tally in added:
                self._add(place, tally)

    def hand_on(self, send: Callable[[list[Row]], bool]) -> None:
        """Call ``send`` with all of it, part by part; what it refuses stays here."""
        with self._lock:
            taken, self._tallies = self._tallies, {}
        left = list(taken.items())
        while left and send([_row(*one) for one in left[:ONE_PART]]):
            del left[:ONE_PART]
        if left:
            with self._lock:
                for place, tally in left:
                    self._add(place, tally)

    def sums(self) -> dict[Place, Tally]:
        """Return a copy of all of it."""
        with self._lock:
            copies: dict[Place, Tally] = {}
            for place, tally in self._tallies.items():
                copies[place] = Tally()
                copies[place].merge(tally)
            return copies

    def _add(self, place: Place, tally: Tally) -> None:
        using, (task, queue, outcome) = place
        task = _among(self._tasks.setdefault(using, set()), task, MOST_TASKS)
        queue = _among(self._queues.setdefault(using, set()), queue, MOST_QUEUES)
        self._tallies.setdefault(Place(using, Key(task, queue, outcome)), Tally()).merge(tally)


def _among(known: set[str], name: str, most: int) -> str:
    """Return a name, or one for all that are too many; a name that was told once stays."""
    if name and name != OTHER and name not in known:
        if len(known) >= most:
            return OTHER
        known.add(name)
    return name


def _row(place: Place, tally: Tally) -> Row:
    waits, runs = tally.waits, tally.runs
    times = [waits.buckets, waits.seconds, runs.buckets, runs.seconds]
    return [place.using, *place.key, tally.jobs, *times]


def _read(row: Row) -> tuple[Place, Tally]:
    using, task, queue, outcome, jobs, *times = row
    waits, waited, runs, ran = times
    key = Key(str(task), str(queue), str(outcome))
    both = _times(waits, waited), _times(runs, ran)
    return Place(str(using), key), Tally(int(jobs), *both)


def _times(buckets: Any, seconds: Any) -> Times:
    if len(buckets) != LAST + 1:
        raise ValueError(f"expected {LAST + 1} buckets, got {len(buckets)}")
    return Times([int(one) for one in buckets], float(seconds))
