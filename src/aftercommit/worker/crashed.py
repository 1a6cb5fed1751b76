"""The jobs with crashes that this worker could run: those that were on a dead worker."""

import threading
from collections import deque
from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from aftercommit.enqueue.lookup import known_task
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.store.base import Store
from aftercommit.worker.config import Served
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.runs import now

DUE_WITHIN = timedelta(minutes=1)  # a process for such jobs is worth its start
SHORTEST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=200), timedelta(seconds=15)
SHARE = 0.02  # of the time, at most, that looking for them may take
AT_A_TIME = 100  # jobs


class CrashedJobs:
    """Finds them by their index now and then, and keeps their ids; they are claimed by these."""

    def __init__(self, store: Store, served: Served, rules: RulesInForce) -> None:
        self._store = store
        self._served = served
        self._rules = rules
        self._unknown: set[str] = set()  # paths of tasks that this process does not know
        self._due: deque[tuple[str, UUID]] = deque()  # (queue, job)
        self._lock = threading.Lock()
        self._next_look = now()
        self._claimed = False
        self.are_near = False  # some are due, or will be within ``DUE_WITHIN``

    def look(self, *, at_once: bool = False) -> None:
        """Find jobs, unless the last look was too short a time ago."""
        with self._lock:
            if not at_once and now() < self._next_look:
                return
            began = now()
            while self._found_only_unknown():
                continue  # the next statement leaves them out
            pause = max((now() - began) / SHARE, SHORTEST_PAUSE.total_seconds())
            self._next_look = now() + min(pause, LONGEST_PAUSE.total_seconds())

    def take(self, limit: int) -> dict[str, list[UUID]]:
        """Return up to ``limit`` jobs that were due, by queue; look for more if none are left."""
        if not self._due:
            self.look(at_once=self._claimed)
            self._claimed = False
        taken: dict[str, list[UUID]] = {}
        with self._lock:
            for _number in range(min(limit, len(self._due))):
                queue, job_id = self._due.popleft()
                taken.setdefault(queue, []).append(job_id)
        return taken

    def claimed(self) -> None:
        """Let the next look come at once: a job that was claimed and has run may be due again."""
        self._claimed = True

    def _found_only_unknown(self) -> bool:
        rows = self._store.crashed_jobs(
            due_within=DUE_WITHIN,
            queues=self._queues(),
            backends=self._served.known_backends,
            but_queues=None if self._served.relays else QUEUE_PREFIX,
            unknown=sorted(self._unknown | self._rules.paused_tasks),
            limit=AT_A_TIME,
        )
        unknown = {row.task_path for row in rows if known_task(row.task_path) is None}
        self._unknown |= unknown
        runnable = [row for row in rows if row.task_path not in unknown]
        self.are_near = bool(runnable)
        self._due = deque((row.queue, row.job_id) for row in runnable if row.is_due)
        return bool(unknown) and not runnable

    def _queues(self) -> Collection[str] | None:
        self._rules.refresh()
        paused = self._rules.paused_queues
        chosen = self._served.queues
        if not paused and (chosen is None or chosen.names is not None):
            return None if chosen is None else chosen.names
        found = self._store.crashed_queues()
        return [one for one in found if self._served.serves(one) and one not in paused]
