"""Lets jobs out of their fair lines: those whose limits and rates have room, or that are named.

A job that is let through is claimable, and marked as one that a limit has let through: the claim
that follows decides again, and gives it a slot and a token.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from aftercommit.gcra import Rate
from aftercommit.models import Blocked, State
from aftercommit.options.fair import is_gated
from aftercommit.store.fair.reading import FairReading, interleaved
from aftercommit.store.limits.claims import LockKeys
from aftercommit.store.limits.lines import Waiting
from aftercommit.values import ClaimQuery


class Passed(NamedTuple):
    """What was let through, of the first jobs of some lines."""

    jobs: list[UUID]
    last: str | None  # the last one of their lines, in the order of the claim
    present: frozenset[str]  # lines in which somebody waits, or has waited


NOBODY = Passed([], None, frozenset())


class FairGates(FairReading):
    """Lets jobs through, or out."""

    def _let_lines_through(self, query: ClaimQuery, keys: Sequence[str], share: int) -> Passed:
        """Let the first jobs of lines through whose limits have room, and the others wait."""
        with self._with_keys() as lock:
            columns = f"{self.waiting_columns}, rate_key"
            rows = interleaved(self._heads_of_lines(query, keys, share, columns=columns))
            heads = [self._as_waiting(row[:-2]) for row in rows]
            line_of = {one.job_id: row[-1] for one, row in zip(heads, rows, strict=True)}
            rate_key_of = {
                one.job_id: row[-2] or query.rated.get(one.task_path)
                for one, row in zip(heads, rows, strict=True)
            }
            heads = [
                one._replace(limit_key=query.limited.get(one.task_path, one.limit_key))
                for one in heads
                # Of other lines without a limit the claim has taken what there is.
                if one.task_path in query.limited or is_gated(line_of[one.job_id])
            ]
            slots = self._free_slots(query, heads, lock)
            tokens = self._free_tokens(query, heads, rate_key_of, lock)
            chosen: list[UUID] = []
            for one in heads:
                rate_key = rate_key_of[one.job_id]
                if len(chosen) == query.limit:
                    break
                if slots.get(one.limit_key, 0) > 0 and tokens.get(rate_key, 0) > 0:
                    slots[one.limit_key] -= 1
                    tokens[rate_key] -= 1
                    chosen.append(one.job_id)
            passed = self._leave_line(chosen, blocked=Blocked.PASSED)
            lines = [line_of[one] for one in passed]
            last = max(lines, key=keys.index, default=None)
            return Passed(passed, last, frozenset(line_of.values()))

    def _free_slots(
        self, query: ClaimQuery, heads: Sequence[Waiting], lock: LockKeys
    ) -> dict[str, int]:
        """Return for how many more jobs each limit key has room, without keys that are locked."""
        limits = {
            one.limit_key: limit
            for one in heads
            if (limit := query.limit_of(one.task_path)) is not None
        }
        held = lock(list(limits)[: self.most_keys]) if limits else set()
        lines, _none = self._lines({key: limits[key] for key in held}, [])
        return {key: line.room for key, line in lines.items()}

    def _free_tokens(
        self,
        query: ClaimQuery,
        heads: Sequence[Waiting],
        rate_key_of: Mapping[UUID, str | None],
        lock: LockKeys,
    ) -> dict[str | None, int]:
        """Return how many jobs of each rate key may start now, but for those that were parked.

        Who claims is told when to look at the others again.
        """
        rates: dict[str, Rate] = {}
        path_of: dict[str, str] = {}
        tokens: dict[str | None, int] = {None: len(heads)}
        for one in heads:
            key, rate = rate_key_of[one.job_id], query.rate_of(one.task_path)
            if key is None:
                continue
            tokens[key] = 0 if rate else len(heads)
            path_of[key] = one.task_path
            rates |= {key: rate} if rate else {}
        held = lock(list(rates)[: self.most_keys]) if rates else set()
        for key in rates.keys() - held:
            query.line_met(key, path_of[key], None)
        for key, now in self._keys_now({key: rates[key] for key in held}).items() if held else ():
            parked = self._first_in_line({key: now.allowed}) if now.allowed else {}
            tokens[key] = now.allowed - len(parked.get(key, ()))
            if tokens[key] <= 0:
                query.line_met(key, path_of[key], now.wait())
        return tokens

    def out_of_line(self, job_ids: Sequence[UUID]) -> None:
        """Let jobs be claimable that wait in fair lines."""
        if job_ids:
            with self._write():
                self._leave_line(job_ids, blocked=None)

    def _leave_line(self, job_ids: Collection[UUID], *, blocked: Any) -> list[UUID]:
        """Make jobs in fair lines claimable; return those that nobody else has locked."""
        waiting = self._is_waiting().filter(id__in=job_ids)
        locked = set(self._locked(waiting, skip=True).values_list("id", flat=True))
        self._jobs.filter(id__in=locked, state=State.READY).update(
            claimable=True, waits_for=0, blocked=blocked, line=None
        )
        return [one for one in job_ids if one in locked]
