"""Keeps jobs of paused tasks out of the way of claims, and brings them back afterwards."""

import time
from collections.abc import Sequence
from datetime import timedelta

from aftercommit.store.aside import Front
from aftercommit.store.base import Store
from aftercommit.worker.rules import RulesInForce

AT_A_TIME = timedelta(milliseconds=300)  # of a fetch; the results of runs wait meanwhile


class PausedTasks:
    """Moves such jobs in batches, each in a short transaction, as many as fit into a moment.

    A claim would step over all of them each time, and there may be a million. So they are set
    aside as it meets them, each once. Those that are due later are not in its way yet.
    """

    def __init__(self, store: Store, rules: RulesInForce) -> None:
        self._store = store
        self._rules = rules
        self._until = 0.0
        self.has_more = False  # the last fetch had no time for all

    def begin(self) -> None:
        """Note that a new fetch begins; bring back jobs of resumed tasks."""
        self.has_more = False
        self._rules.refresh_if_idle()
        self._until = time.monotonic() + AT_A_TIME.total_seconds()
        while self._brings_back():
            if self._is_over():
                return

    def bring_all_back(self) -> None:
        """Bring back all jobs of resumed tasks, however long that takes."""
        self._rules.refresh()
        while self._brings_back():
            continue

    def _brings_back(self) -> bool:
        """Bring back some jobs of resumed tasks; return whether there may be more."""
        more = [task for task in self._rules.resumed if self._store.bring_back(task)]
        self._rules.resumed = more
        return bool(more)

    def clear(self, queue: str, groups: Sequence[tuple[str, int]]) -> bool:
        """Return whether a claim meets no job of a paused task, or only few."""
        tasks = self._rules.paused_tasks
        front = Front.MOVED if tasks else Front.CLEAR
        while front is Front.MOVED and not self._is_over():
            front = self._store.set_aside(queue, groups, tasks)
        return front is Front.CLEAR

    def _is_over(self) -> bool:
        self.has_more = time.monotonic() > self._until
        return self.has_more
