"""The runs that wait for a thread of the pool, and which of them are done in one go."""

from collections import deque
from collections.abc import Sequence
from datetime import timedelta

from aftercommit.worker.in_flight import MOST
from aftercommit.worker.runs import Run, now

# So many threads keep the interpreter busy while the database writes. More of them would only
# wait for the interpreter, with rows locked: with 24 threads the rate of short atomic tasks
# falls to a third without lanes (docs/explanation/scale.md).
LANES = 2
OVERDUE = timedelta(milliseconds=100)  # after which a lane is no longer waited for


class Assignment:
    """What a thread does next: one run, or several that are done in one go."""

    def __init__(self, runs: list[Run], *, in_lane: bool) -> None:
        self.runs = runs
        self.in_lane = in_lane
        self.began = now()
        for run in runs:
            run.in_lane = in_lane


class RunQueue:
    """Hands out runs as they came; those that may go together to ``lanes`` threads at a time.

    Not thread-safe: the pool calls it with its lock held.
    """

    def __init__(self, *, lanes: int = LANES) -> None:
        self.lanes = lanes
        self._runs: deque[Run] = deque()
        self._for_lane: deque[Run] = deque()  # taken from the front while no lane was free
        self._lanes: list[Assignment] = []

    def __len__(self) -> int:
        return len(self._runs) + len(self._for_lane)

    def add(self, runs: Sequence[Run]) -> None:
        """Put runs at the end of the queue."""
        self._runs.extend(runs)

    def put_back(self, runs: Sequence[Run]) -> None:
        """Put the end of an assignment, for which there was no time, at the front."""
        self._for_lane.extendleft(reversed(runs))

    def clear(self) -> list[Run]:
        """Remove and return everything."""
        taken = [*self._for_lane, *self._runs]
        self._for_lane.clear()
        self._runs.clear()
        return taken

    @property
    def oldest(self) -> Run | None:
        """The run that has waited for longest."""
        waiting = self._for_lane or self._runs
        return waiting[0] if waiting else None

    def take(self) -> Assignment | None:
        """Return what a thread may do now."""
        if self._for_lane and self._lane_is_free:
            return self._assign_to_lane()
        while self._runs:
            if not _may_join(self._runs[0]):
                return Assignment([self._runs.popleft()], in_lane=False)
            if self._lane_is_free:
                return self._assign_to_lane()
            self._for_lane.append(self._runs.popleft())
        return None

    def over(self, assignment: Assignment) -> None:
        """Note that an assignment has ended."""
        if assignment.in_lane:
            self._lanes.remove(assignment)

    @property
    def _lane_is_free(self) -> bool:
        if len(self._lanes) < self.lanes:
            return True
        since = now() - OVERDUE.total_seconds()
        return sum(one.began > since for one in self._lanes) < self.lanes

    def _assign_to_lane(self) -> Assignment:
        """Begin an assignment with the first runs, a lane's share of what waits."""
        most = min(MOST, 1 + len(self) // self.lanes)
        taken: list[Run] = []
        for waiting in (self._for_lane, self._runs):  # the latter have come later
            while waiting and len(taken) < most and _fits(waiting[0], taken):
                taken.append(waiting.popleft())
        assignment = Assignment(taken, in_lane=True)
        self._lanes.append(assignment)
        return assignment


def _may_join(run: Run) -> bool:
    group = run.facts.group
    return group is not None and group.accepts(run)


def _fits(run: Run, taken: list[Run]) -> bool:
    return not taken or (run.facts.group is taken[0].facts.group and _may_join(run))
