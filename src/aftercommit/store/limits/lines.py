"""Who is next: what a limit says about the jobs of one key, without a database.

The jobs of a key are in one of these places:

- some *occupy* a slot: they run with one, or were let through and are claimable, or hold the key
  of an ordered task, which also a job does that waits for its next attempt;
- some are *parked*: ready, but not claimable;
- some are *new*: claimable and due, and nobody has looked at their key yet.

Each free slot goes to the first of those that are parked or new.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from aftercommit.models import LIVE, Blocked, State
from aftercommit.values import UNLIMITED, Limit

PLACE = attrgetter("place")
MARKS = (Blocked.PASSED, Blocked.HOLDS)  # of jobs that are not parked


class Waiting(NamedTuple):
    """A ready job that is new, was let through, or is parked."""

    job_id: UUID
    limit_key: str
    task_path: str
    queue: str
    state: str
    place: tuple[Any, ...]  # smaller is first


class Known(NamedTuple):
    """A job that has to do with a key, as it is while the key is locked.

    Where slots are all that is asked for, they may be those of several jobs.
    """

    job_id: UUID | None
    limit_key: str
    slots: Sequence[int]
    blocked: int | None
    state: str
    claimable: bool


class Slot(NamedTuple):
    """What a job gets when it is claimed."""

    key: str
    number: int | None  # None: its key has no limit, and so no slots
    holds: bool  # the job keeps its key until it has ended


@dataclass(slots=True)
class Line:
    """The jobs of one key that are not parked, and what was decided about the key."""

    limit: Limit
    known: bool = True  # False: the claimer does not have the task, and changes nothing
    slots: set[int] = field(default_factory=set)  # in use
    expected: set[UUID] = field(default_factory=set)  # occupy a slot that they do not have yet
    passed: set[UUID] = field(default_factory=set)  # those let through, and claimable holders
    holder: UUID | None = None
    over: set[UUID] = field(default_factory=set)  # marked, but ended long ago

    def note(self, job: Known) -> None:
        """Take a job into account."""
        self.slots.update(job.slots)
        if job.job_id is None or job.blocked not in MARKS:
            return
        if job.state not in LIVE:
            self.over.add(job.job_id)
            return
        if job.blocked == Blocked.HOLDS:
            self.holder = job.job_id
        elif job.state == State.RUNNING:
            return  # claimed by a worker that does not know limits: it has no slot
        if not job.slots:
            self.expected.add(job.job_id)
        if job.claimable:
            self.passed.add(job.job_id)

    def holds(self, job_id: UUID) -> bool:
        """Return whether a job, once claimed, keeps its key until it has ended."""
        return self.limit.ordered if self.known else job_id == self.holder

    def slot_of(self, job_id: UUID, key: str, number: int) -> Slot:
        """Return what a job of this line gets that may run with a slot of this number."""
        unlimited = self.known and self.limit == UNLIMITED
        return Slot(key, None if unlimited else number, self.holds(job_id))

    @property
    def room(self) -> int:
        """How many more jobs may be let through or claimed."""
        return max(self.limit.slots - len(self.slots) - len(self.expected), 0)

    def free_slots(self) -> Iterator[int]:
        """Return slots that are not in use, as many as the limit still has."""
        free = (number for number in count(1) if number not in self.slots)
        return islice(free, max(self.limit.slots - len(self.slots), 0))


@dataclass(slots=True)
class Verdict:
    """What happens to the jobs of one key."""

    may_run: dict[UUID, int] = field(default_factory=dict)  # with their slots
    parked: set[UUID] = field(default_factory=set)
    let_through: list[Waiting] = field(default_factory=list)


def decide(line: Line, candidates: Sequence[Waiting], parked: Sequence[Waiting]) -> Verdict:
    """Give the free slots of a key to the first in line.

    ``candidates`` are claimable and due, in order; ``parked`` are the first of the parked ones.
    """
    verdict = Verdict()
    slots = line.free_slots()
    new = _again(line, candidates, slots, verdict) if line.passed else candidates
    first, let_through = new[: line.room], parked
    if parked:
        is_new = {one.job_id for one in new}
        in_line = sorted([*new, *parked], key=PLACE)[: line.room]
        first = [one for one in in_line if one.job_id in is_new]
        let_through = [one for one in in_line if one.job_id not in is_new]
    verdict.let_through += let_through
    verdict.may_run.update((one.job_id, slot) for one, slot in zip(first, slots, strict=False))
    if len(new) > len(first):
        verdict.parked |= {one.job_id for one in new}.difference(one.job_id for one in first)
    return verdict


def _again(
    line: Line, candidates: Sequence[Waiting], slots: Iterator[int], verdict: Verdict
) -> list[Waiting]:
    """Decide about those that were let through; return the others."""
    new = []
    for one in candidates:
        if one.job_id not in line.passed:
            new.append(one)
        elif (not line.known or line.holder in {None, one.job_id}) and (
            slot := next(slots, None)
        ):
            verdict.may_run[one.job_id] = slot
        else:
            verdict.parked.add(one.job_id)
    return new
