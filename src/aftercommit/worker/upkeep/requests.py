"""Notices soon that somebody has cancelled a running job."""

from collections.abc import Callable, Sequence
from datetime import timedelta

from aftercommit.store.base import Store
from aftercommit.worker.held import Runs
from aftercommit.worker.runs import Run, now

# A request is noticed within a second: LOOK_EVERY, and YOUNG for a run that has just begun.
LOOK_EVERY = timedelta(milliseconds=650)
YOUNG = timedelta(milliseconds=300)  # since its claim: it is likely to end by itself
# A request may be older than its run is known here: the claim was committed, and its answer
# under way.
LOOK_AGAIN = timedelta(seconds=1)
UNTIL_RUNG = timedelta(seconds=5)


class Requests:
    """Asks the database which runs of this process are to stop.

    Where the database notifies workers, after ``heard()`` only; elsewhere all the time, but only
    about runs that last: an idle worker, and one with a queue of short jobs, asks nothing. The
    heartbeat hears of each request as well, so a notification that is lost costs time only.
    """

    def __init__(self, store: Store, runs: Runs, *, notified: Callable[[], bool]) -> None:
        self._store = store
        self._runs = runs
        self._notified = notified
        self._heard_at = float("-inf")

    def heard(self) -> None:
        """Note that there may be requests; the next steps ask. From any thread."""
        self._heard_at = now()

    def step(self) -> timedelta:
        """Ask once, if there is something to ask; return when to come again."""
        since = now()
        told = since - self._heard_at <= LOOK_AGAIN.total_seconds()
        if not told and self._notified():
            self._store.connection.close()
            return UNTIL_RUNG
        runs = [run for run in self._runs.all() if not (run.lost or run.cancel_requested)]
        if not told:
            old = since - YOUNG.total_seconds()
            runs = [run for run in runs if run.held_since <= old and run.in_body]
        if runs:
            self._ask(runs)
        else:
            self._store.connection.close()
        return LOOK_EVERY

    def _ask(self, runs: Sequence[Run]) -> None:
        asked = self._store.asked_to_stop([run.claim for run in runs])
        for run in runs:
            if run.claim.job_id in asked:
                run.ask_to_stop()
