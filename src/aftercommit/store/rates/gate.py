"""T1 of jobs with a rate key: a claim takes a token for each, and parks those beyond.

The tokens of a key belong to the first in its line: a job that is new does not start before one
that was parked, but is parked behind it.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, Q

from aftercommit.gcra import Rate
from aftercommit.models import State
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.rates.keys import KeyNow
from aftercommit.store.rates.lines import MOST_OF_KEY, InLine, LockKeys, RateLines
from aftercommit.values import Claim, ClaimQuery, Limit

WITHOUT_SLOT = timedelta(minutes=1)  # for the line behind a job that has a token but no slot
ONE_WRITE = 500  # rows that one statement names
DUE = ExpressionWrapper(Q(claimable=True, run_after__lte=DatabaseNow()), BooleanField())


class Candidate(Protocol):
    """A due job that a claim decides about."""

    @property
    def job_id(self) -> UUID: ...
    @property
    def task_path(self) -> str: ...
    @property
    def place(self) -> tuple[Any, ...]: ...


AnyCandidate = TypeVar("AnyCandidate", bound=Candidate)


@dataclass(slots=True)
class Gate:
    """What a claim has found out about the rates of its candidates."""

    # Those that may start, by id: their keys, or None if they have none.
    open: dict[UUID, str | None] = field(default_factory=dict)
    keys: dict[str, KeyNow] = field(default_factory=dict)
    waiting: set[str] = field(default_factory=set)  # keys whose lines are not empty
    paths: dict[str, str] = field(default_factory=dict)  # of a task, by key
    parked: int = 0  # jobs
    passed: int = 0  # those that were let through
    rated: bool = True  # whether one of them has a rate
    capped: bool = False  # there are more keys among them than were tried

    def open_among(self, candidates: list[AnyCandidate]) -> list[AnyCandidate]:
        """Return the candidates that may start by their rates."""
        return (
            [one for one in candidates if one.job_id in self.open] if self.rated else candidates
        )


ALL_OPEN = Gate(rated=False)


class RateGate(RateLines):
    """Decides which due jobs may start by their rates."""

    most_keys: int  # to lock at once

    def _pass_gate(
        self,
        query: ClaimQuery,
        candidates: Sequence[Candidate],
        held: Collection[str],
        lock: LockKeys,
    ) -> Gate:
        """Park the candidates whose rates are used up.

        Candidates that others have locked, or whose keys, are neither parked nor open. ``held``:
        keys that are locked already.
        """
        rates = {one.task_path: query.rate_of(one.task_path) for one in candidates}
        if not any(rates.values()):
            return ALL_OPEN
        gate = Gate(open={one.job_id: None for one in candidates if not rates[one.task_path]})
        rated = [one for one in candidates if rates[one.task_path]]
        of_key = self._lock_rated(rated, gate, query.rated)
        if len(of_key) > self.most_keys:  # the next round decides about the others
            of_key = self._first_keys(of_key)
            gate.capped = True
        gate.paths = {key: some[0].task_path for key, some in of_key.items()}
        others = of_key.keys() - set(held)
        held = set(held).intersection(of_key) | (lock(others) if others else set())
        for key in of_key.keys() - held:
            query.line_met(key, gate.paths[key], None)
        wanted: dict[str, Rate] = {
            key: rate for key in held if (rate := rates[gate.paths[key]]) is not None
        }
        gate.keys = self._keys_now(wanted) if wanted else {}
        self._give_tokens(gate, {key: of_key[key] for key in gate.keys})
        return gate

    def _lock_rated(
        self, candidates: Sequence[Candidate], gate: Gate, at_run_time: Mapping[str, str]
    ) -> Mapping[str, Sequence[Candidate]]:
        """Lock candidates that are due still; return them by their keys.

        Jobs of tasks that have a rate ``at_run_time`` only get the key of their task.
        """
        found: dict[str, list[Candidate]] = {}
        new: dict[str, list[UUID]] = {}
        by_id = {one.job_id: one for one in candidates}
        ids = list(by_id)
        for start in range(0, len(ids), ONE_WRITE):
            some = self._jobs.filter(id__in=ids[start : start + ONE_WRITE], state=State.READY)
            rows = self._locked(some, skip=True).values_list("id", "rate_key", DUE)
            for job_id, key, due in rows:
                if key is None and (given := at_run_time.get(by_id[job_id].task_path)):
                    key = given  # noqa: PLW2901
                    new.setdefault(given, []).append(job_id)
                if key is None:  # enqueued before the task had a rate
                    gate.open[job_id] = None
                elif due:
                    found.setdefault(key, []).append(by_id[job_id])
        for key, without in new.items():
            for start in range(0, len(without), ONE_WRITE):
                self._jobs.filter(id__in=without[start : start + ONE_WRITE]).update(rate_key=key)
        return found

    def _first_keys(
        self, of_key: Mapping[str, Sequence[Candidate]]
    ) -> dict[str, Sequence[Candidate]]:
        """Return the keys of the first candidates, as many as are locked at once."""
        first = sorted(of_key, key=lambda key: min(one.place for one in of_key[key]))
        return {key: of_key[key] for key in first[: self.most_keys]}

    def _give_tokens(self, gate: Gate, of_key: Mapping[str, Sequence[Candidate]]) -> None:
        numbers = {key: gate.keys[key].allowed for key in of_key}
        lines = self._first_in_line(
            {
                key: min(number, MOST_OF_KEY)
                for key, number in numbers.items()
                if number and gate.keys[key].may_have_line
            }
        )
        passing: list[InLine] = []
        for key, candidates in of_key.items():
            line = lines.get(key, [])
            both: list[Any] = sorted([*candidates, *line], key=lambda one: one.place)
            if len(line) == MOST_OF_KEY:  # others of the line may be in front of what follows
                both = [one for one in both if one.place <= line[-1].place]
            first = {one.job_id for one in both[: numbers[key]]}
            gate.open |= {one.job_id: key for one in candidates if one.job_id in first}
            passing += [one for one in line if one.job_id in first]
            beyond = [one.job_id for one in candidates if one.job_id not in first]
            if beyond or line:
                gate.waiting.add(key)
            for start in range(0, len(beyond), ONE_WRITE):
                self._park(beyond[start : start + ONE_WRITE], key)
            gate.parked += len(beyond)
        gate.passed = len(self._let_through(passing))

    def _take_tokens(self, query: ClaimQuery, gate: Gate, claims: Iterable[Claim]) -> None:
        """Write that these jobs start now; tell the claimer which keys have lines."""
        started: dict[str, list[datetime]] = {}
        left = Counter(gate.open.values())
        for claim in claims:
            if (key := gate.open.get(claim.job_id)) is not None:
                started.setdefault(key, []).append(claim.claimed_at)
        for key, moments in started.items():
            gate.keys[key].started(len(moments), at=max(moments))
        if started:
            self._write_keys((key, gate.keys[key]) for key in started)
        for key in gate.waiting:
            unclaimed = left[key] - len(started.get(key, ()))
            wait = self._wait_of(gate.keys[key], query.limit_of(gate.paths[key]), unclaimed)
            query.line_met(key, gate.paths[key], wait)

    def _wait_of(self, key: KeyNow, limit: Limit | None, unclaimed: int) -> timedelta:
        """Return when the line of a key is to be looked at again.

        Whoever comes next would wait for the same slot as those that may start and were not
        claimed. When they are claimed, the claim tells of the line anew.
        """
        spoken_for = limit is not None and limit.shared_by_rate and unclaimed >= key.allowed > 0
        return WITHOUT_SLOT if spoken_for else key.wait()
