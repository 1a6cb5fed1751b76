"""Interrupts runs that exceed their timeout, and sees that interrupted runs end."""

from collections.abc import Callable
from datetime import timedelta

from aftercommit.errors import TimedOut
from aftercommit.worker.held import Runs
from aftercommit.worker.runs import Run, now

LOOK_EVERY = timedelta(milliseconds=100)
IDLE = timedelta(milliseconds=500)  # when no run has a time limit
PATIENCE = timedelta(seconds=5)  # after the interrupt: a call into C may not notice it


class Timeouts:
    """Interrupts overdue runs; gives up those that do not react to it."""

    def __init__(self, all_runs: list[Runs], *, give_up: Callable[[Run], None]) -> None:
        self._all_runs = all_runs
        self._give_up = give_up

    def step(self) -> timedelta:
        """Look once; return when to look again."""
        limited = [
            run
            for runs in self._all_runs
            for run in runs.all()
            if run.deadline is not None or run.interrupted_at is not None
        ]
        for run in limited:
            self._look_at(run)
        return LOOK_EVERY if limited else IDLE

    def _look_at(self, run: Run) -> None:
        run.nudge()
        if run.deadline is None or now() < run.deadline or not run.in_body or run.given_up:
            return
        run.interrupt(TimedOut)
        if run.interrupted_at and now() - run.interrupted_at > PATIENCE.total_seconds():
            run.given_up = True
            self._give_up(run)
