"""T1 of jobs with a limit key: a slot is given, or the job is parked; and parked jobs pass.

A job under a limit is inserted as any other job; whoever enqueues takes no lock. A claim that
meets it decides about its key, and holds the lock of the key meanwhile: the free slots go to the
first in line, and the others are parked, so that no later claim steps over them. When a run has
ended, its slot is free by that write, since it is a column of the job. The next parked job is
let through by a transaction of its own: then no end of a run, which may be part of the user's
transaction, ever waits for a key. Any worker may do that at any time, so nothing is lost when a
worker dies in between.

Whoever has locked a key waits for nothing more, neither for rows nor for other keys.
"""

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models import Q

from aftercommit.store.limits.lines import Line, Slot, Verdict, Waiting
from aftercommit.store.limits.moving import Moving
from aftercommit.store.limits.reading import in_parts
from aftercommit.store.limits.rounds import FRONT, Front, Look, Round, Rounds
from aftercommit.store.rates.gate import Gate, RateGate
from aftercommit.values import UNLIMITED, Claim, ClaimQuery, Limit

# After so many seconds the server ends the session of a process that was stopped while it held
# keys. It would hold them for as long as it stands still.
STANDING_STILL = 5
LockKeys = Callable[[Collection[str]], set[str]]


def with_keys(claims: Iterable[Claim], slots: Mapping[UUID, Slot]) -> list[Claim]:
    """Return the claims with the keys of their jobs."""
    return [one._replace(limit_key=slots[one.job_id].key) for one in claims]


class Limits(Moving, RateGate):
    """Claims jobs, also under limits."""

    most_keys = 200  # to lock at once

    def __init__(self, alias: str) -> None:
        super().__init__(alias)
        self._fronts: dict[str, Front] = {}  # by queue

    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim; see ``Claims.claim``."""
        claims: list[Claim] = []
        if query.limited_first:
            self.end_leases(query.ended)
            met = True
        else:
            claims, met = self._claim_free(query)
        if met:
            self._claim_more(query, claims)
        return claims

    def let_pass(self, limits: Mapping[str, Limit]) -> tuple[int, set[str]]:
        """Let the first parked jobs of these keys through, where slots are free.

        Returns how many, and the keys that somebody else had locked: call again for those.
        """
        nobody_parks = self._nobody_parks()
        if nobody_parks and not self._any_parked():
            return 0, set()
        passed, locked = 0, set(limits)
        keys = sorted(limits)
        for some_keys in in_parts(keys, self.most_keys):
            free = list(some_keys) if nobody_parks else self._unlocked(some_keys)
            # Only now: who parks a job by an older look holds the lock until it is to be seen.
            waiting = self._with_parked(free) if free else []
            locked -= set(free).difference(waiting)
            if waiting:
                some = {key: limits[key] for key in waiting}
                number, held = self._after_deadlock(partial(self._let_pass, some))
                passed += number
                locked -= held
        return passed, locked

    # ---- what each database does its own way ------------------------------------------

    @abstractmethod
    def _claim_free(self, query: ClaimQuery) -> tuple[list[Claim], bool]:
        """Claim jobs without a limit key; return also whether due jobs with one were met."""

    @abstractmethod
    def _look(self, query: ClaimQuery, most: int, lock: LockKeys) -> Look:
        """Read the first due jobs without a lock, and lock their keys."""

    @abstractmethod
    def _take(self, query: ClaimQuery, slots: Mapping[UUID, Slot]) -> list[Claim]:
        """Claim those of these jobs that are due still and that nobody has locked.

        The claims have the keys of their jobs.
        """

    @abstractmethod
    def _with_keys(self) -> AbstractContextManager[LockKeys]:
        """Begin a short transaction; yield what locks keys until its end, and never waits."""

    def _nobody_parks(self) -> bool:
        """Return whether at a moment of this call nobody was about to park jobs of any key.

        Whoever begins to later will see what is committed now, and parks nobody for whom there
        is a slot. False if the database cannot tell: then each key is looked at.
        """
        return False

    @abstractmethod
    def _unlocked(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that nobody has locked at a moment of this call."""

    # ---- the claim --------------------------------------------------------------------

    def _claim_more(self, query: ClaimQuery, claims: list[Claim]) -> None:
        """Add jobs under limits to these claims, and those without one behind them."""
        rounds = Rounds(query, claims, self._fronts.get(query.queue, FRONT))
        try:
            while rounds.begin():
                rounds.decided(self._after_deadlock(partial(self._round, rounds)))
                if rounds.wants_plain:
                    rounds.claimed(*self._claim_free(rounds.rest))
        except Error:
            if not claims or self._in_transaction():
                raise
            # The claims are committed; the next claim raises it if it lasts.
        if rounds.front != FRONT or query.queue in self._fronts:
            self._fronts[query.queue] = rounds.front
        if rounds.left:
            query.slots_used_up()

    def _round(self, rounds: Rounds) -> Round:
        with self._with_keys() as lock:
            now = (
                self._claim_at_once(rounds.rest, rounds.most_at_once) if rounds.at_once else None
            )
            if now is not None:
                return now
            return self._claim_under_limits(rounds.rest, rounds, lock)

    def _claim_at_once(self, query: ClaimQuery, most: int) -> Round | None:
        """Give free slots to the first due jobs, where a database can do that by itself.

        None if more than that is to be decided about their keys.
        """
        return None

    def _in_turn(self, due: Iterable[Waiting], seen: int) -> list[UUID]:
        """Return the jobs under limits that come before the next job without one.

        The claim before has seen so many of them, and claimed those without in between: what is
        left of those is locked by others, and nobody has to wait for it.
        """
        found: list[UUID] = []
        for one in due:
            if one.limit_key is not None:
                found.append(one.job_id)
            elif len(found) >= seen:
                break
        return found

    def _claim_under_limits(self, query: ClaimQuery, rounds: Rounds, lock: LockKeys) -> Round:
        """Decide about the first due jobs."""
        look = self._look(query, rounds.most, lock)
        if look.busy:
            self._tell_of_busy(query, look)
        if query.limited:
            look = self._give_keys(query, look, lock)
        candidates = [one for one in look.due if one.limit_key in look.held]
        if not candidates:
            return Round(look, [])
        gate = self._pass_gate(query, candidates, look.held, lock)
        limits = self._limits_of(query, candidates, gate)
        lines, candidates = self._lines(limits, gate.open_among(candidates))
        if query.only is not None:
            candidates = [one for one in candidates if not self._has_earlier(one, lines)]
        verdicts = self._decide(lines, candidates)
        may_run = {
            job_id: lines[key].slot_of(job_id, key, number)
            for key, one in verdicts.items()
            for job_id, number in one.may_run.items()
        }
        chosen = [one for one in self._in_turn(look.due, rounds.seen) if one in may_run]
        slots = {one: may_run[one] for one in chosen[: query.limit]}
        claims = self._take(query, slots) if slots else []
        taken = {one.job_id for one in claims}
        parks = rounds.needed is None or len(claims) < rounds.needed
        left = 0 if parks else self._park_nobody(lines, verdicts)
        parked, passed = self._settle(lines, verdicts, taken)
        self._take_tokens(query, gate, claims)
        look = look._replace(capped=look.capped or gate.capped)
        numbers = (number for number, one in enumerate(look.due, 1) if one.job_id in taken)
        return Round(
            look,
            claims,
            parked + gate.parked,
            passed + gate.passed,
            left,
            looked_at=len(look.due),
            reached=max(numbers, default=0),
        )

    def _park_nobody(self, lines: Mapping[str, Line], verdicts: Mapping[str, Verdict]) -> int:
        """Leave jobs where they are that would be parked; return how many.

        Those of ordered keys are parked, and jobs that were let through and find no slot.
        """
        left = 0
        for key, verdict in verdicts.items():
            if not lines[key].limit.ordered:
                left += len(verdict.parked)
                verdict.parked &= lines[key].passed
                left -= len(verdict.parked)
        return left

    def _limits_of(
        self, query: ClaimQuery, candidates: list[Waiting], gate: Gate
    ) -> dict[str, Limit | None]:
        """Return the limits of the keys to decide about.

        Also of those whose candidates have to wait for their rates: they may have been let
        through, and the next in line gets the slot that they do not need yet.
        """
        path_of = {one.limit_key: one.task_path for one in candidates}
        of_path = {path: query.limit_of(path) for path in set(path_of.values())}
        is_open = {one.limit_key for one in gate.open_among(candidates)}
        return {
            key: of_path[path]
            for key, path in path_of.items()
            if key in is_open or of_path[path] not in {None, UNLIMITED}
        }

    def _look_at(self, rows: Iterable[Sequence[Any]], most: int, lock: LockKeys) -> Look:
        """Lock the keys of due jobs, whose ``waiting_columns`` have been read."""
        due = [self._as_waiting(row) for row in rows]
        keys = list(dict.fromkeys(one.limit_key for one in due if one.limit_key is not None))
        tried = keys[: self.most_keys]
        held = lock(tried) if tried else set()
        busy = [key for key in tried if key not in held]
        return Look(due, held, busy, full=len(due) == most, capped=len(keys) > len(tried))

    def _tell_of_busy(self, query: ClaimQuery, look: Look) -> None:
        """Tell the claimer which rates somebody else decides about just now."""
        for key, path in {one.limit_key: one.task_path for one in look.due}.items():
            if key in look.busy and query.rate_of(path) is not None:
                query.line_met(key, path, None)

    def _give_keys(self, query: ClaimQuery, look: Look, lock: LockKeys) -> Look:
        """Give jobs of tasks that are limited at run time the key of their task.

        The code that has enqueued them knew no limit. From now on they are as those of a task
        that has one.
        """
        wanted = {one.job_id: query.limited.get(one.task_path, one.limit_key) for one in look.due}
        new = {
            one.job_id: wanted[one.job_id]
            for one in look.due
            if one.limit_key != wanted[one.job_id]
        }
        if not new:
            return look
        tried = set(new.values()).difference(look.held, look.busy, query.busy)
        locked = lock(tried) if tried else set()
        held = {*look.held, *locked}
        for key in held.intersection(new.values()):
            jobs = self._claimable().filter(
                id__in=[one for one, its in new.items() if its == key]
            )
            free = list(self._locked(jobs, skip=True).values_list("id", flat=True))
            self._jobs.filter(id__in=free).update(limit_key=key)
        due = [one._replace(limit_key=wanted[one.job_id]) for one in look.due]
        return look._replace(due=due, held=held, busy=[*look.busy, *(tried - locked)])

    def _has_earlier(self, one: Waiting, lines: Mapping[str, Line]) -> bool:
        """Return whether a claim of named jobs must leave this one, because of the order.

        The jobs before it may not have been named. This reads the queue up to the first of them;
        only workers that have chosen a job beforehand do that.
        """
        line = lines[one.limit_key]
        if not line.limit.ordered or one.job_id in line.passed:
            return False
        job = self._jobs.get(id=one.job_id)
        before = Q(run_after__lt=job.run_after) | Q(run_after=job.run_after, id__lt=job.id)
        alike = self._claimable().filter(limit_key=one.limit_key, queue=job.queue)
        return alike.filter(before, backend=job.backend, priority=job.priority).exists()

    def _let_pass(self, limits: Mapping[str, Limit]) -> tuple[int, set[str]]:
        with self._with_keys() as lock:
            held = lock(limits)
            if not held:
                return 0, held
            lines, _none = self._lines({key: limits[key] for key in held}, [])
            _parked, passed = self._settle(lines, self._decide(lines, []), ())
            return passed, held
