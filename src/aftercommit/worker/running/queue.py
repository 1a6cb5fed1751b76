"""The run queue: runs that wait for a thread, and which of them are executed together."""

from collections import deque
from collections.abc import Sequence

from aftercommit.options.queues import is_in_order
from aftercommit.worker.facts import GroupRunner, TaskFacts
from aftercommit.worker.in_flight import MOST
from aftercommit.worker.runs import Run, now


class RunQueue:
    """Returns runs in their order, several at once if they may be executed together.

    Not thread-safe: the pool calls it with its lock held.
    """

    def __init__(self, *, threads: int) -> None:
        self._threads = threads
        self._runs: deque[Run] = deque()
        # Batches that wait until they are full, or for as long as their task says.
        self._filling: dict[TaskFacts, list[Run]] = {}

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, runs: Sequence[Run]) -> None:
        """Put runs at the end of the queue, when their batch is full if they have one."""
        waiting = [run for run in runs if run.facts.batch is not None and run.facts.batch.wait]
        if not waiting:
            self._runs.extend(runs)
            return
        for run in runs:
            self._add(run)

    def _add(self, run: Run) -> None:
        batch, group = run.facts.batch, run.facts.group
        if batch is None or not batch.wait or group is None or not group.accepts(run):
            self._runs.append(run)
            return
        filling = self._filling.setdefault(run.facts, [])
        filling.append(run)
        if len(filling) >= batch.size:
            self._let_go(run.facts)

    def put_back(self, runs: Sequence[Run]) -> None:
        """Put runs back to the front: no time for them, or no place in a batch."""
        self._runs.extendleft(reversed(runs))

    def clear(self, *, filling: bool = True) -> list[Run]:
        """Remove and return everything; without ``filling`` not what waits for its batch."""
        for facts in list(self._filling) if filling else ():
            self._let_go(facts)
        taken = list(self._runs)
        self._runs.clear()
        return taken

    @property
    def oldest(self) -> Run | None:
        """The run that has waited longest for a thread."""
        return self._runs[0] if self._runs else None

    @property
    def pause(self) -> float | None:
        """Seconds until a batch has waited long enough; None: none waits."""
        if not self._filling:
            return None
        return max(min(map(_ends_at, self._filling.values())) - now(), 0)

    def take(self) -> list[Run]:
        """Remove and return one run, or a thread's share of runs to be executed together."""
        if self._filling:
            moment = now()
            for facts, runs in list(self._filling.items()):
                if _ends_at(runs) <= moment:
                    self._let_go(facts)
        if not self._runs:
            return []
        taken = [self._runs.popleft()]
        group = taken[0].facts.group
        if group is None or not group.accepts(taken[0]):
            return taken
        if (most := group.most(taken[0])) is not None:
            return self._batch(taken[0], group, most)
        share = min(MOST, 1 + (1 + len(self._runs)) // self._threads)
        while self._runs and len(taken) < share and _joins(self._runs[0], taken[0]):
            taken.append(self._runs.popleft())
        return taken

    def _batch(self, first: Run, group: GroupRunner, most: int) -> list[Run]:
        """Remove the others for the batch of a run, wherever they are; return all of it."""
        taken = [first]
        passed: list[Run] = []
        while self._runs and len(taken) < most:
            run = self._runs.popleft()
            if run.facts is first.facts and _joins(run, first):
                smallest = min(most, group.most(run) or 1)
                if len(taken) < smallest:
                    most = smallest
                    taken.append(run)
                    continue
            passed.append(run)
        self.put_back(passed)
        return taken

    def _let_go(self, facts: TaskFacts) -> None:
        """Let a batch wait for a thread from now on."""
        runs = self._filling.pop(facts)
        since = now()
        for run in runs:
            run.held_since = since
        self._runs.extend(runs)


def _ends_at(filling: Sequence[Run]) -> float:
    batch = filling[0].facts.batch
    return filling[0].held_since + (0 if batch is None else batch.wait)


def _joins(run: Run, first: Run) -> bool:
    group = run.facts.group
    if group is None or group is not first.facts.group:
        return False
    alike = is_in_order(run.claim.queue) == is_in_order(first.claim.queue)
    return alike and group.accepts(run)
