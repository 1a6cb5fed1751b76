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
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from django.db import Error
from django.db.models import BooleanField, ExpressionWrapper, Q

from aftercommit.models import Blocked, State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.limits.lines import Line, Verdict, Waiting, decide
from aftercommit.store.limits.reading import LOOKED_AT, Lines
from aftercommit.values import Claim, ClaimQuery, Limit

MOST_ROUNDS = 3  # of a claim that has found jobs; one that has parked them all goes on

# After so many seconds the server ends the session of a process that was stopped while it held
# keys. It would hold them for as long as it stands still.
STANDING_STILL = 5
DUE = ExpressionWrapper(Q(claimable=True, run_after__lte=DatabaseNow()), BooleanField())
LockKeys = Callable[[Collection[str]], set[str]]


class Limits(Lines):
    """Claims jobs, also under limits."""

    def claim(self, query: ClaimQuery) -> list[Claim]:
        """Claim; see ``Claims.claim``."""
        claims, met = self._claim_free(query)
        if met:
            self._claim_more(query, claims)
        return claims

    def let_pass(self, limits: Mapping[str, Limit]) -> tuple[int, set[str]]:
        """Let the first parked jobs of these keys through, where slots are free.

        Returns how many, and the keys that somebody else had locked: call again for those.
        """
        passed, locked = 0, set(limits)
        keys = sorted(limits)
        for start in range(0, len(keys), LOOKED_AT):
            some = {key: limits[key] for key in keys[start : start + LOOKED_AT]}
            number, held = self._after_deadlock(partial(self._let_pass, some))
            passed += number
            locked -= held
        return passed, locked

    # ---- what each database does its own way ------------------------------------------

    @abstractmethod
    def _claim_free(self, query: ClaimQuery) -> tuple[list[Claim], bool]:
        """Claim jobs without a limit key; return also whether due jobs with one were met."""

    @abstractmethod
    def _due_under_limits(self, query: ClaimQuery, limit: int) -> list[Any]:
        """Return the ``waiting_columns`` of the first due jobs, and do not lock them."""

    @abstractmethod
    def _take(
        self, query: ClaimQuery, slots: Mapping[UUID, int | None], holders: Collection[UUID]
    ) -> list[Claim]:
        """Claim these locked jobs; ``holders`` keep their keys until they have ended."""

    @abstractmethod
    def _with_keys(self) -> AbstractContextManager[LockKeys]:
        """Begin a short transaction; yield what locks keys until its end, and never waits."""

    # ---- the claim --------------------------------------------------------------------

    def _claim_more(self, query: ClaimQuery, claims: list[Claim]) -> None:
        rounds = 0
        while (left := query.limit - len(claims)) > 0 and (not claims or rounds < MOST_ROUNDS):
            rounds += 1
            rest = replace(query, limit=left, after=None, ended=())
            # From a position on, the claim before has not seen what is in front of that.
            seen = 0 if rounds == 1 and query.after is not None else left
            try:
                more, went_on = self._after_deadlock(
                    partial(self._claim_under_limits, rest, seen)
                )
                claims += more
                if not went_on or len(more) == left:
                    return
                free, met = self._claim_free(replace(rest, limit=left - len(more)))
            except Error:
                if not claims:
                    raise
                return  # the claims are committed; the next claim raises it if it lasts
            claims += free
            if not met:
                return

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

    def _claim_under_limits(self, query: ClaimQuery, seen: int) -> tuple[list[Claim], bool]:
        """Decide about the first due jobs; return the claims, and whether anything changed."""
        with self._with_keys() as lock:
            due = [self._as_waiting(row) for row in self._due_under_limits(query, LOOKED_AT)]
            candidates = [one for one in due if one.limit_key is not None]
            in_turn = self._in_turn(due, seen)
            limits = {one.limit_key: query.limit_of(one.task_path) for one in candidates}
            held = lock(limits) if limits else set()
            candidates = [one for one in candidates if one.limit_key in held]
            if not candidates:
                return [], False
            lines, candidates = self._lines({key: limits[key] for key in held}, candidates)
            if query.only is not None:
                candidates = [one for one in candidates if not self._has_earlier(one, lines)]
            verdicts = self._decide(lines, candidates)
            free = self._lock_rows(verdicts)
            may_run = {
                job_id: (slot, lines[key].holds(job_id))
                for key, one in verdicts.items()
                for job_id, slot in one.may_run.items()
            }
            chosen = [one for one in in_turn if one in may_run and one in free][: query.limit]
            self._keep_places(lines, verdicts, free, chosen)
            changed = self._park_and_let_through(verdicts, free)
            if not chosen:
                return [], changed
            taken = self._take(
                query,
                {job_id: may_run[job_id][0] for job_id in chosen},
                [job_id for job_id in chosen if may_run[job_id][1]],
            )
            keys = {one.job_id: one.limit_key for one in candidates}
            return [one._replace(limit_key=keys[one.job_id]) for one in taken], True

    def _keep_places(
        self,
        lines: Mapping[str, Line],
        verdicts: Mapping[str, Verdict],
        free: Collection[UUID],
        chosen: Collection[UUID],
    ) -> None:
        """See to it that nobody passes the first one of an ordered key that is not claimed now.

        It is marked as let through. If its row is locked, nobody behind it is parked: only of
        those that are parked one could pass before it is looked at again.
        """
        kept = []
        for key, verdict in verdicts.items():
            if lines[key].limit.ordered:
                kept += [one for one in verdict.may_run if one not in lines[key].passed]
                if any(one not in free for one in verdict.may_run):
                    verdict.parked.clear()
        if waiting := [one for one in kept if one in free and one not in chosen]:
            self._jobs.filter(id__in=waiting, state=State.READY).update(blocked=Blocked.PASSED)

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
            verdicts = self._decide(lines, [])
            self._park_and_let_through(verdicts, self._lock_rows(verdicts))
            return sum(len(one.let_through) for one in verdicts.values()), held

    # ---- the lines --------------------------------------------------------------------

    def _decide(
        self, lines: Mapping[str, Line], candidates: Iterable[Waiting]
    ) -> dict[str, Verdict]:
        of_key: dict[str, list[Waiting]] = {key: [] for key in lines}
        for one in candidates:
            of_key[one.limit_key].append(one)
        # Who does not know the task cannot say for how many there is room.
        rooms = {key: line.room for key, line in lines.items() if line.known and line.room}
        parked = self._first_parked(rooms)
        return {
            key: decide(line, of_key[key], parked.get(key, [])) for key, line in lines.items()
        }

    def _lock_rows(self, verdicts: Mapping[str, Verdict]) -> set[UUID]:
        """Lock the rows that are to be changed, but for those that others have locked.

        The rows were read without a lock, and not everybody who writes them asks for the key:
        what the decision has relied on is compared again.
        """
        due = {
            job_id: key for key, one in verdicts.items() for job_id in [*one.may_run, *one.parked]
        }
        parked = {job.job_id: key for key, one in verdicts.items() for job in one.let_through}
        wanted = due | parked
        if not wanted:
            return set()
        rows = self._locked(self._jobs.filter(id__in=wanted, state=State.READY), skip=True)
        return {
            job_id
            for job_id, key, blocked, is_due in rows.values_list(
                "id", "limit_key", "blocked", DUE
            )
            if key == wanted[job_id]
            and (blocked == Blocked.LIMIT if job_id in parked else is_due)
        }

    def _park_and_let_through(
        self, verdicts: Mapping[str, Verdict], free: Collection[UUID]
    ) -> bool:
        parked = {one for verdict in verdicts.values() for one in verdict.parked}.intersection(
            free
        )
        passing = {
            one.job_id: one.queue
            for verdict in verdicts.values()
            for one in verdict.let_through
            if one.job_id in free
        }
        # waits_for as well, by which the database may set "claimable": see migrations._flags.
        if parked:
            self._jobs.filter(id__in=parked, state=State.READY).update(
                claimable=False, waits_for=1, blocked=Blocked.LIMIT
            )
        if passing:
            self._jobs.filter(id__in=passing, state=State.READY).update(
                claimable=True, waits_for=0, blocked=Blocked.PASSED
            )
            self._wake(set(passing.values()))
        return bool(parked or passing)
