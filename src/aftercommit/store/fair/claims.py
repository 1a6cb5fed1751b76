"""T1 of jobs that take turns: each key of a queue gives its share of a claim.

A job that is due when it is enqueued is inserted into the line of its key, where no plain claim
sees it. Others (for later, retried, released, resumed) are claimable; the claim that meets them
moves them into their line. A job with a limit or a rate as well stays in its line until that
has room, and is let through then, as a parked one is.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple
from uuid import UUID

from django.db import Error
from django.db.models import Case, Count, F, Q, Value, When
from django.db.models.functions import Concat, Substr

from aftercommit.models import Blocked, State
from aftercommit.options.fair import HEAD, head_of
from aftercommit.store.aside import Aside
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.columns import id_from
from aftercommit.store.fair.gates import NOBODY, FairGates, Passed
from aftercommit.store.fair.reading import Part
from aftercommit.values import Claim, ClaimQuery

MOST_KEYS = 200  # in one claim
MOST_ROUNDS = 5  # while others have claimed, or locked, all that was found
MOST_CLOSED = 10  # rounds, while the limits and rates of all that was found have no room
FRONT = 500  # due jobs of a group, or of all keys, that are looked at together
LEAST_FRONT = 10  # of a key
MOST_MOVED = 10  # times FRONT, in one claim


class InTurn(NamedTuple):
    """The claims from fair lines, and the key behind which the next claim begins."""

    claims: list[Claim]  # the first of each key, then the second of each, and so on
    after: str


class FairClaims(FairGates, Aside):
    """Claims from the lines of a queue, from key to key."""

    def claim_in_turn(self, query: ClaimQuery, part: Part, *, after: str) -> InTurn:
        """Claim jobs that wait in fair lines; see ``Claims.claim``.

        Of each key about the same number: the first ones, by priority and time. Begins behind
        the key ``after``, and goes on with the first key behind the last one.
        """
        self.end_leases(query.ended)
        query = replace(query, ended=(), queue=part.queue)
        found = InTurn([], after)

        def claim(query: ClaimQuery) -> list[Claim]:
            nonlocal found
            found = self._in_turn_of(query, part, after)
            return found.claims

        if not self.in_slots(query, claim) and found.claims:
            return InTurn([], after)  # a deadlock has undone these, and then there was no slot
        return found

    def _in_turn_of(self, query: ClaimQuery, part: Part, after: str) -> InTurn:
        """Look at the next keys, and at more of them while none of their jobs may start.

        A drain would end, although a job is due, if only so many were looked at as are asked for.
        """
        most = min(query.limit, MOST_KEYS)
        seen: set[str] = set()
        for _round in range(MOST_CLOSED if part.gated else MOST_ROUNDS):
            found = self._fair_keys(part, after, most)
            if not found:
                return InTurn([], "")
            keys = [key for key in found if key not in seen]
            has_seen_all = len(keys) < most
            if not keys:
                break
            seen.update(keys)
            if query.paused:
                self._set_lines_aside(query, keys)
            share = math.ceil(query.limit / len(keys))
            if not part.gated:
                keys = keys[: math.ceil(query.limit / share)]
            after = keys[-1]
            claims, passed, last = self._claim_of_keys(query, part, keys, share)
            if claims:
                return InTurn(claims, passed.last or last or after)
            self._clear(query, [key for key in keys if key not in passed.present])
            if has_seen_all:
                break
            most = MOST_KEYS if part.gated else most
        return InTurn([], after)

    def _claim_of_keys(
        self, query: ClaimQuery, part: Part, keys: list[str], share: int
    ) -> tuple[list[Claim], Passed, str | None]:
        """Return claims, what was let through for them, and the key of the last claim.

        The last one of an open line: where the keys gave not all as many, the next claim begins
        with those that gave less.
        """
        claims: list[Claim] = []
        last: str | None = None
        if not part.gated:
            others = [*query.unknown, *query.limited]
            claims, last = self._claim_from_lines(replace(query, unknown=others), keys, share)
        left = query.limit - len(claims)
        if not left or not (part.gated or query.limited):
            return claims, NOBODY, last
        rest = replace(query, limit=left)
        try:
            passed = self._after_deadlock(partial(self._let_lines_through, rest, keys, share))
            if passed.jobs:
                which = replace(rest, only=passed.jobs, groups=None, after=None, fair=False)
                claims += self.claim(which)
        except Error:
            if not claims or self._in_transaction():
                raise
            # They are committed; the next claim raises it if it lasts.
            return claims, NOBODY, last
        return claims, passed if part.gated else passed._replace(last=None), last

    @abstractmethod
    def _claim_from_lines(
        self, query: ClaimQuery, keys: Sequence[str], share: int
    ) -> tuple[list[Claim], str | None]:
        """Claim the first ``share`` jobs of each line; see ``InTurn.claims``.

        Returns also the key of the last one.
        """

    def _clear(self, query: ClaimQuery, keys: Sequence[str]) -> None:
        """Empty lines where nobody waits: other programs have ended or claimed what is there."""
        heads = self._heads_of_lines(replace(query, unknown=()), keys, 1, columns="id")
        empty = [key for key, rows in zip(keys, heads, strict=True) if not rows]
        if not empty:
            return
        left = self._jobs.filter(line__in=empty).exclude(blocked=Blocked.FAIR, state=State.READY)
        found = list(left.values_list("id", flat=True)[:FRONT])
        if found:
            with self._write():
                free = self._locked(left.filter(id__in=found), skip=True)
                ids = list(free.values_list("id", flat=True))
                self._jobs.filter(id__in=ids).update(line=None)

    def _set_lines_aside(self, query: ClaimQuery, keys: Sequence[str]) -> None:
        """Set jobs of paused tasks aside that are among the first of these lines.

        The claim steps over those that are left.
        """
        every = replace(query, unknown=())
        share = max(FRONT // len(keys), LEAST_FRONT)
        for _time in range(MOST_MOVED):
            lines = self._heads_of_lines(every, keys, share, columns="id, task_path")
            found = [id_from(row[0]) for rows in lines for row in rows if row[1] in query.paused]
            moved = [
                self._after_deadlock(
                    partial(self._set_aside, found[first : first + FRONT], query.paused)
                )
                for first in range(0, len(found), FRONT)
            ]
            if not any(moved):
                return

    # ---- into the lines --------------------------------------------------------------

    def _claim_more(self, query: ClaimQuery, claims: list[Claim]) -> None:
        """Move jobs that take turns into their lines, and go on with the others."""
        if not query.fair:
            super()._claim_more(query, claims)
            return
        rest = replace(query, fair=False, without_fair=True)
        met = True
        try:
            if self._into_lines(query):  # plain jobs may have been hidden behind these
                rest = replace(rest, after=None, ended=(), limited_first=False)
                free, met = self._claim_free(replace(rest, limit=query.limit - len(claims)))
                claims += free
        except Error:
            if not claims or self._in_transaction():
                raise
            return  # the claims are committed; the next claim raises it if it lasts
        if met and len(claims) < query.limit:
            super()._claim_more(rest, claims)

    def _into_lines(self, query: ClaimQuery) -> int:
        """Move jobs that are due and among the first of a group; return how many."""
        moved = 0
        for backend, priority in self._groups(query):
            due = self._claimable().filter(
                backend=backend,
                queue=query.queue,
                priority=priority,
                run_after__lte=DatabaseNow(),
            )
            front = due.order_by("run_after", "id")
            names = ("id", "fair_key", "blocked", "crashes")
            for _time in range(MOST_MOVED):
                some = Count("id", filter=Q(fair_key__isnull=False, blocked=None, crashes=0))
                if not front[:FRONT].aggregate(some=some)["some"]:  # quicker than to read them
                    break
                rows = list(front.values_list(*names)[:FRONT])
                found = [row[0] for row in rows if row[1] and row[2] is None and not row[3]]
                if not found:
                    break
                join = partial(self._join, found, backend, query.queue)
                if not (joined := self._after_deadlock(join)):
                    break
                moved += joined
        return moved

    def _join(self, job_ids: Sequence[UUID], backend: str, queue: str) -> int:
        """Move jobs into their lines: those of the queue in which they are now."""
        with self._write():
            due = self._jobs.filter(
                id__in=job_ids,
                claimable=True,
                state=State.READY,
                blocked=None,
                crashes=0,  # a job with crashes runs alone, and at once
                fair_key__isnull=False,
                backend=backend,
                queue=queue,
                run_after__lte=DatabaseNow(),
            )
            locked = list(self._locked(due, skip=True).values_list("id", flat=True))
            key = Concat(Value(head_of(backend, queue)), Substr("fair_key", HEAD + 1))
            # In this order: MySQL assigns one after the other, and reads what it has assigned.
            self._jobs.filter(id__in=locked).update(
                limit_key=Case(When(limit_key=F("fair_key"), then=key), default=F("limit_key")),
                line=key,
                fair_key=key,
                claimable=False,
                waits_for=1,
                blocked=Blocked.FAIR,
            )
        return len(locked)
