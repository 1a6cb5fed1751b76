"""How a claim that meets jobs under limits goes on, round after round."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

from aftercommit.store.limits.lines import Waiting
from aftercommit.values import Claim, ClaimQuery

MOST_ROUNDS = 3  # of a claim that has found jobs; one that has parked them all goes on
FEWEST_LOOKED_AT, FIRST_LOOKED_AT, MOST_LOOKED_AT = 50, 1_000, 5_000  # due jobs in a round
MOST_AT_ONCE = 2_000  # due jobs that are looked at to give free slots to the first of them
SPARE = 2  # times as many as there is room for: not all get a slot
MOST_SPARE, LESS_SPARE = 4.0, 0.9  # where free slots are given at once; see ``Front.spare``
BEYOND = 1.25  # times as many due jobs as it took to give the last slot, in the next claim
MORE, MUCH_MORE = 4, 10  # times as many in the next round; much more if none could be claimed
MOST_BUSY = 1_000  # keys that others have locked, and that one claim steps over


class Look(NamedTuple):
    """The first due jobs, and the locks of their keys."""

    due: list[Waiting]  # also those without a key
    held: Collection[str]
    busy: Collection[str]  # keys that somebody else had locked
    full: bool  # there may be more jobs
    capped: bool  # there are more keys among them than were tried


class Round(NamedTuple):
    """What a decision about the first due jobs has led to."""

    look: Look
    claims: list[Claim]
    parked: int = 0
    passed: int = 0
    left: int = 0  # jobs that wait for slots, and were not parked
    has_lines: bool | None = None  # of keys whose free slots were given away at once
    looked_at: int = 0  # due jobs
    reached: int = 0  # of these the last one that got a slot, counted from the front

    @property
    def meets_plain(self) -> bool:
        """Whether due jobs without a key were among those looked at."""
        return any(one.limit_key is None for one in self.look.due)


class Front(NamedTuple):
    """How many due jobs of a queue to look at while no thread waits for one.

    By what the claims before have needed. Each job that gets no slot is read in vain.
    """

    spare: float = 1.0  # for each job that is wanted, where free slots are given at once
    reach: int = MOST_AT_ONCE  # at most: jobs behind it got no slot the last time

    def most(self, wanted: int) -> int:
        """Return how many to look at for so many that are wanted."""
        return min(max(ceil(self.spare * wanted), FEWEST_LOOKED_AT), self.reach)

    def after(self, now: Round, *, wanted: int) -> "Front":
        """Return what the next claim goes by; ``wanted``: how many more this one has room for."""
        if wanted:
            needed = now.looked_at / len(now.claims) if now.claims else MOST_SPARE
            spare = min(max(self.spare, needed), MOST_SPARE)
        else:
            spare = max(self.spare * LESS_SPARE, 1.0)
        reach = ceil(now.reached * BEYOND)
        if not now.claims or reach >= now.looked_at:  # more may be behind
            reach = max(2 * now.looked_at, reach) if now.claims else MOST_AT_ONCE
        return Front(spare, min(max(reach, FEWEST_LOOKED_AT), MOST_AT_ONCE))


FRONT = Front()  # of a queue of which nothing is known yet


@dataclass(slots=True)
class Rounds:
    """What the next round looks at, and whether there is one."""

    query: ClaimQuery
    claims: list[Claim]  # so far
    front: Front = FRONT
    # How many of the first due jobs a claim of those without a key has seen. What is left of
    # those is locked by others.
    seen: int = field(init=False)
    most: int = field(init=False)  # due jobs to look at
    wants_plain: bool = field(init=False, default=False)  # jobs without a key are due
    at_once: bool = field(init=False, default=True)  # a free slot may be all that is needed
    left: int = field(init=False, default=0)  # see Round
    _number: int = field(init=False, default=0)
    _goes_on: bool = field(init=False, default=True)
    _busy: set[str] = field(init=False)
    _needed: int | None = field(init=False)

    @property
    def most_at_once(self) -> int:
        """How many due jobs to look at if free slots are all that is needed."""
        return self.front.most(self._left)

    def __post_init__(self) -> None:
        from_front = not self.query.limited_first and self.query.after is None
        self.seen = self._left if from_front else 0
        self._busy = set(self.query.busy)
        self._needed = None if self.query.needed is None else self.query.needed()
        # While no thread waits for a job, those without a slot are left, and no round follows.
        first = self.front.reach if self._needed == 0 else FIRST_LOOKED_AT
        self.most = min(max(SPARE * self._left, FEWEST_LOOKED_AT), first)

    @property
    def _left(self) -> int:
        return self.query.limit - len(self.claims)

    @property
    def rest(self) -> ClaimQuery:
        """What is left to claim, from the front of the queue."""
        busy = sorted(self._busy)
        return replace(self.query, limit=self._left, after=None, ended=(), busy=busy)

    @property
    def needed(self) -> int | None:
        """How many more claims keep all threads busy; see ``ClaimQuery.needed``."""
        return None if self._needed is None else max(self._needed - len(self.claims), 0)

    def begin(self) -> bool:
        """Return whether there is a next round."""
        self._number += 1
        few = self._number <= MOST_ROUNDS or not self.claims
        return self._goes_on and few and self._left > 0 and len(self._busy) <= MOST_BUSY

    def decided(self, now: Round) -> None:
        """Note what a round has led to."""
        self.claims += now.claims
        self.left = now.left
        self._busy.update(now.look.busy)
        if now.has_lines is not None:
            self._granted(now)
            return
        changed = bool(now.claims or now.parked or now.passed or now.look.busy)
        self.wants_plain = now.meets_plain and self._left > 0
        if self.wants_plain:  # it may have left out what is behind the first of those
            self._goes_on = changed or not self.seen
        else:
            more = now.look.full or now.look.capped
            self._goes_on = now.passed > 0 or (changed and more and not self._is_enough(now))
            self.seen = 0
        if self._needed == 0 and not (now.parked or now.passed):
            self.front = self.front.after(now, wanted=self._left)
        if not now.look.capped:
            self.most = min(self.most * (MORE if now.claims else MUCH_MORE), MOST_LOOKED_AT)

    def _is_enough(self, now: Round) -> bool:
        """Return whether jobs without a slot may stay in front: no thread needs another."""
        return now.left > 0 and self.needed == 0

    def _granted(self, now: Round) -> None:
        """Note what came of giving free slots to whoever was first.

        Who waits for a slot is parked only if something behind is needed. Otherwise whoever gets
        the next slot is claimed from where it is, without having been written twice before.
        """
        saw_all = now.looked_at >= self.front._replace(reach=MOST_AT_ONCE).most(self._left)
        self.front = self.front.after(now, wanted=self._left)
        self.at_once = not (now.left or now.has_lines)
        if self.at_once:
            self._goes_on = bool(now.claims or now.look.busy) and (
                now.look.full or now.look.capped
            )
            return
        self._goes_on = now.has_lines or self.needed != 0
        if self._goes_on and not now.has_lines and now.look.full and not saw_all:
            # Before any is parked, for want of a slot in what was looked at.
            self.front, self.at_once = self.front._replace(reach=MOST_AT_ONCE), True

    def claimed(self, free: list[Claim], met: bool) -> None:
        """Note the answer to a claim of jobs without a key; ``met``: others were in front."""
        self.seen = self._left
        self.claims += free
        self._goes_on = met and (self._goes_on or bool(free))
