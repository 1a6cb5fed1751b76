"""Counts the runs of one database alias, and writes what was counted with each heartbeat."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

from django.db import Error

from aftercommit.ids import new_job_id
from aftercommit.store.base import Store
from aftercommit.store.statistics import RESENT_FOR, Counted
from aftercommit.tallies import (
    CANCELLED,
    CLAIMED,
    FAILED,
    OTHER,
    PRUNED,
    RELEASED,
    RETRIED,
    SUCCEEDED,
    TICKED,
    Key,
    Tally,
)
from aftercommit.values import (
    Cancelled,
    Claim,
    Failed,
    Released,
    Retry,
    RunResult,
    Succeeded,
    SucceededAndGone,
)
from aftercommit.worker.runs import Run, now

MOST_TASKS, MOST_QUEUES = 200, 100  # that are counted by name, in one process
UNTIL_RUNG = timedelta(minutes=1)
ONE_FOLD = 1_000  # rows
LONGEST_DOUBT = RESENT_FOR.total_seconds()
WORDS: dict[type, str] = {
    Succeeded: SUCCEEDED,
    SucceededAndGone: SUCCEEDED,
    Failed: FAILED,
    Cancelled: CANCELLED,
    Retry: RETRIED,
    Released: RELEASED,
}


class RunCounter:
    """What was counted since the last flush; ``step`` is repeated by a thread of its own.

    Counting costs a job a few microseconds and no statement. All counters are written by one
    statement with each heartbeat, as new rows, on a connection that is closed afterwards: where
    nothing was counted, nothing is done. What is not written when the process is killed is lost.
    """

    def __init__(self, store: Store, *, every: timedelta, enabled: bool) -> None:
        self.ring: Callable[[], None] = lambda: None
        # Is called with what a flush is about to write.
        self.taken: Callable[[Iterable[tuple[Key, Tally]]], None] = lambda _counted: None
        self.enabled = enabled
        self._store = store
        self._every = every
        self._lock = threading.Lock()
        # By what is at hand for each run, which is not a key yet.
        self._by_run: dict[tuple[str, str, type], Tally] = {}
        self._tallies: dict[Key, Tally] = {}
        self._tasks: set[str] = set()
        self._queues: set[str] = set()
        self._unsent: list[Counted] = []  # taken by a flush that did not succeed
        self._sent_first: float | None = None  # when that was sent for the first time
        self._next_at = 0.0

    # ---- counting, from any thread ------------------------------------------------

    def ended(self, ends: Sequence[tuple[Run, RunResult]]) -> None:
        """Count runs whose outcomes are in the table."""
        if not self.enabled:
            return
        with self._lock:
            for run, result in ends:
                self._ended(run, type(result.outcome))

    def _ended(self, run: Run, outcome: type) -> None:
        claim = run.claim
        of_run = (claim.task_path, claim.queue, outcome)
        tally = self._by_run.get(of_run)
        if tally is None:
            tally = self._by_run[of_run] = self._tally_of(run, WORDS[outcome])
        tally.jobs += 1
        if outcome is not Released:  # else the job waits on
            tally.waits.add(_wait(claim))
            if run.took is not None:
                tally.runs.add(run.took)

    def claimed(self, queues: Iterable[str]) -> None:
        """Count claimed jobs by their queues."""
        if not self.enabled:
            return
        with self._lock:
            for queue, number in Counter(queues).items():
                self._tally("", queue, CLAIMED).jobs += number

    def pruned(self, number: int) -> None:
        """Count jobs that were deleted by age."""
        if self.enabled and number:
            with self._lock:
                self._tally("", "", PRUNED).jobs += number

    def ticked(self, late: Iterable[timedelta]) -> None:
        """Count moments of schedules, and how late they were decided."""
        if not self.enabled:
            return
        with self._lock:
            for one in late:
                tally = self._tally("", "", TICKED)
                tally.jobs += 1
                tally.waits.add(one.total_seconds())

    def _tally_of(self, run: Run, outcome: str) -> Tally:
        # By its present name, under whichever name the job is stored.
        return self._tally(run.facts.task.module_path, run.claim.queue, outcome)

    def _tally(self, task_path: str, queue: str, outcome: str) -> Tally:
        task_path = _among(self._tasks, task_path, MOST_TASKS)
        key = Key(task_path, _among(self._queues, queue, MOST_QUEUES), outcome)
        if not self._tallies:
            self.ring()
        return self._tallies.setdefault(key, Tally())

    # ---- writing --------------------------------------------------------------------

    def step(self) -> timedelta:
        """Write what was counted, at most once in a heartbeat; return when to write again."""
        if (left := self._next_at - now()) > 0:
            return timedelta(seconds=left)
        if not self._tallies and not self._unsent:
            return UNTIL_RUNG
        self.flush()
        self._next_at = now() + self._every.total_seconds()
        return self._every

    def flush(self) -> None:
        """Write what was counted; raises ``django.db.Error`` if the database does not answer.

        It is kept then, and sent again as the same rows, which count once also if they have been
        folded meanwhile. After ten minutes it is dropped: these rows may be forgotten then.
        """
        try:
            if self._sent_first is not None and now() - self._sent_first > LONGEST_DOUBT:
                self._unsent, self._sent_first = [], None
            if self._unsent:
                self._send()
            self._unsent = self._take()
            if self._unsent:
                self._send()
        finally:
            with suppress(Error):
                self._store.connection.close()  # not needed for a while

    def flush_and_fold(self) -> None:
        """Do that, and what else the pruner of a worker does: there may be no worker."""
        self.flush()
        self._store.fold_statistics(limit=ONE_FOLD)
        self._store.prune_statistics(limit=ONE_FOLD)
        self._store.connection.close()

    def _take(self) -> list[Counted]:
        with self._lock:
            tallies, self._tallies, self._by_run = self._tallies, {}, {}
        self.taken(tallies.items())
        return [Counted(new_job_id(), key, tally) for key, tally in tallies.items()]

    def _send(self) -> None:
        self._store.connection.ensure_connection()  # else nothing was sent
        if self._sent_first is None:
            self._sent_first = now()
        self._store.write_statistics(self._unsent)
        self._unsent, self._sent_first = [], None


def _wait(claim: Claim) -> float:
    """Return for how many seconds a job was due before it was claimed."""
    due, enqueued_at = claim.run_after, claim.enqueued_at
    return (claim.claimed_at - (due if due > enqueued_at else enqueued_at)).total_seconds()


def _among(known: set[str], name: str, most: int) -> str:
    if name and name not in known:
        if len(known) >= most:
            return OTHER
        known.add(name)
    return name
