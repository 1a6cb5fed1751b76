"""Random graphs and a model of them in Python, side by side: one random step after the other.

Each job of a graph says what becomes of it if one that it needs does not succeed. The model knows
the edges of a job until it is free, and how each has ended; the rows are compared after each step
whose work is done. After the commit of a step the worker may die: then only the sweep finds
out what is to be done.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import ClassVar
from unittest.mock import patch
from uuid import UUID, uuid4

from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aftercommit.models import LIVE, UNSUCCESSFUL, Dependency, Job, Lease, Rule, State
from aftercommit.store import store_for
from aftercommit.store.graphs.freeing import Freeing
from aftercommit.values import (
    ON_FAILURE,
    RUN,
    Cancelled,
    Claim,
    ClaimQuery,
    Edge,
    Failed,
    NewJob,
    Retry,
    Succeeded,
)
from tests.store.given import ALREADY_OVER, ERROR, LEASE
from tests.store.graphs import sweep

MOST_CRASHES = 2
WAITS = "waits"
ENDS = {"cancel": State.CANCELLED, "fail": State.FAILED}
GONE = "gone"
OUTCOMES = {
    "succeeded": Succeeded,
    "failed": lambda: Failed(ERROR),
    "retried": lambda: Retry(ERROR),
    "cancelled": Cancelled,
}
ENDED_AS = {"succeeded": State.SUCCEEDED, "failed": State.FAILED, "cancelled": State.CANCELLED}
NUMBERS = st.integers(min_value=0, max_value=2**16)  # which of several, by the remainder
SHAPES = ("chain", "diamond", "group", "any")


class RolledBack(Exception):
    """The transaction of the caller ends here."""


@dataclass(slots=True)
class Modelled:
    """What is known of a job."""

    on_failure: str
    needs: dict[UUID, str | None] = field(default_factory=dict)  # how each has ended
    state: str = State.READY  # or WAITS
    crashes: int = 0
    cancel_requested: bool = False


@st.composite
def shapes(draw: st.DrawFn) -> list[tuple[str, list[int]]]:
    """Return what each job of a graph does after a failure, and the numbers of those it needs."""
    shape, rules = draw(st.sampled_from(SHAPES)), st.sampled_from(ON_FAILURE)
    count = draw(st.integers(min_value=2, max_value=6))
    needs = {
        "chain": [[one - 1] if one else [] for one in range(count)],
        "diamond": [[], *([0] for _ in range(count - 2)), [*range(1, count - 1)] or [0]],
        "group": [*([] for _ in range(count - 1)), [*range(count - 1)]],
    }.get(shape)
    if needs is None:
        needs = [
            sorted(draw(st.sets(st.integers(0, one - 1), max_size=3))) if one else []
            for one in range(count)
        ]
    return [(draw(rules), some) for some in needs]


class GraphMachine(RuleBasedStateMachine):
    """Steps through what may happen to the jobs of graphs, in any order."""

    seen: ClassVar[set[str]] = set()  # what has happened, so that nothing is tested in vain

    def __init__(self) -> None:
        super().__init__()
        for model in (Job, Lease, Dependency, Rule):
            model.objects.all().delete()
        self.store = store_for("default")
        self.jobs: dict[UUID, Modelled] = {}
        self.gone: set[UUID] = set()
        self.claims: dict[UUID, Claim] = {}
        # A worker has died after its commit: until the sweep the model is ahead of the rows.
        self.behind = False

    # ---- graphs ---------------------------------------------------------------------------

    @precondition(lambda self: not self.behind)
    @rule(shape=shapes(), older=st.lists(NUMBERS, max_size=2), commits=st.booleans())
    def enqueue(
        self, shape: list[tuple[str, list[int]]], older: list[int], commits: bool
    ) -> None:
        """Enqueue a graph whose first job may need jobs that exist; the caller commits or not."""
        known = list(self.jobs)
        before = {known[number % len(known)] for number in older} if known else set()
        wanted = {number for _rule, needs in shape for number in needs}
        new = [
            NewJob(
                task_path="tasks.any",
                payload="{}",
                needed=number in wanted,
                waits=bool(needs) or (number == 0 and bool(before)),
            )
            for number, (_rule, needs) in enumerate(shape)
        ]
        edges: list[Edge] = []
        models: dict[UUID, Modelled] = {}
        for number, (on_failure, needs) in enumerate(shape):
            others = [new[one].id for one in needs] + (sorted(before) if number == 0 else [])
            edges += [Edge(new[number].id, one, on_failure) for one in others]
            models[new[number].id] = Modelled(
                on_failure, dict.fromkeys(others), WAITS if others else State.READY
            )
        try:
            with transaction.atomic():
                self.store.insert_graph(new, edges)
                if not commits:
                    raise RolledBack
        except RolledBack:
            self.seen.add("rolled back")
            return
        self.jobs |= models
        if before:
            self.seen.add("needs an older one")
        for one in before:
            if (state := self._ended_as(one)) is not None:
                self._mark(one, state, only=[new[0].id])
        self._settle()

    # ---- runs -----------------------------------------------------------------------------

    @precondition(lambda self: self._in(State.READY))
    @rule(number=NUMBERS, dies=st.booleans())
    def claim(self, number: int, dies: bool) -> None:
        """Claim a job; if the worker dies, its lease is over at once."""
        job_id = self._pick(number, State.READY)
        for claim in self._claim([job_id], lease=ALREADY_OVER if dies else LEASE):
            self.claims[job_id] = claim
            self.jobs[job_id].state = State.RUNNING

    @precondition(lambda self: self._in(State.READY) and not self.behind)
    @rule(number=NUMBERS)
    def succeed(self, number: int) -> None:
        """Let a job run to its good end."""
        self.claim(number, dies=False)
        for job_id, claim in list(self.claims.items())[-1:]:
            del self.claims[job_id]
            assert self.store.finish(claim, Succeeded())
            self._end(job_id, State.SUCCEEDED)
        self._settle()

    @precondition(lambda self: self._in(State.RUNNING))
    @rule(
        number=NUMBERS,
        others=st.lists(NUMBERS, max_size=2),
        outcome=st.sampled_from(sorted(OUTCOMES)),
        dies=st.booleans(),
    )
    def finish(self, number: int, others: list[int], outcome: str, dies: bool) -> None:
        """End runs in one batch; the worker may die right after its commit."""
        job_ids = {self._pick(one, State.RUNNING) for one in (number, *others)}
        ends = [(self.claims.pop(one), OUTCOMES[outcome]()) for one in job_ids]
        with self._dying(dies):
            assert len(self.store.finish_many(ends)) == len(ends)
        for one in job_ids:
            job = self.jobs[one]
            state = ENDED_AS.get(outcome, State.READY)
            if state == State.READY and job.cancel_requested:
                state = State.CANCELLED
            self._end(one, state)
        self._settle()

    @rule()
    def rescue(self) -> None:
        """Take the jobs of workers that have died; who has crashed too often has failed."""
        for one in self.store.rescue(max_crashes=MOST_CRASHES):
            job = self.jobs[one.job_id]
            job.crashes += 1
            del self.claims[one.job_id]
            state = State.READY
            if job.crashes >= MOST_CRASHES:
                state = State.FAILED
                self.seen.add("quarantined")
            elif job.cancel_requested:
                state = State.CANCELLED
            assert one.state == state
            self._end(one.job_id, state)
        self._settle()

    # ---- by hand --------------------------------------------------------------------------

    @precondition(lambda self: self.jobs and not self.behind)
    @rule(number=NUMBERS, dies=st.booleans())
    def cancel(self, number: int, dies: bool) -> None:
        """Cancel a job, whatever its state."""
        job_id = self._pick(number)
        with self._dying(dies):
            self.store.cancel([job_id])
        job = self.jobs[job_id]
        if job.state == State.RUNNING:
            job.cancel_requested = True
        elif job.state in {State.READY, WAITS}:
            self.seen.add(f"cancelled while it {'waits' if job.state == WAITS else 'is ready'}")
            self._end(job_id, State.CANCELLED)
        self._settle()

    @precondition(lambda self: self._in(*UNSUCCESSFUL) and not self.behind)
    @rule(number=NUMBERS)
    def retry(self, number: int) -> None:
        """Retry a job by hand: it waits again for what it has waited for in vain."""
        job_id = self._pick(number, *UNSUCCESSFUL)
        assert self.store.retry([job_id]).ready == {job_id}
        job = self.jobs[job_id]
        job.crashes, job.cancel_requested = 0, False
        if not job.needs:
            job.state = State.READY
            return
        self.seen.add("waits again")
        job.state = WAITS
        for one, outcome in job.needs.items():
            if outcome != State.SUCCEEDED:
                job.needs[one] = self._ended_as(one)
        self._settle()

    @precondition(lambda self: self.jobs and not self.behind)
    @rule(states=st.sets(st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED])))
    def prune(self, states: set[str]) -> None:
        """Delete ended jobs."""
        gone = self._in(*states)
        self.store.prune(older_than=timedelta(0), states=sorted(states))
        self._forget(gone)

    @precondition(lambda self: self._in(State.READY) and not self.behind)
    @rule(number=NUMBERS)
    def vanish(self, number: int) -> None:
        """Delete the row of a job by SQL; the sweep finds those that wait for it."""
        job_id = self._pick(number, State.READY)
        Job.objects.filter(id=job_id).delete()
        self.behind = True
        self._mark(job_id, GONE)
        self._forget([job_id])
        self._settle()
        self.seen.add("vanished")

    @rule()
    def sweep(self) -> None:
        """Walk over all edges, as each worker does now and then, until nothing is left to do."""
        for _round in range(2 + len(self.jobs)):
            sweep(self.store)
        self.behind = False

    # ---- what holds after each step -------------------------------------------------------

    @invariant()
    def rows_are_as_modelled(self) -> None:
        """Compare all rows with the model, unless a sweep has something to do."""
        rows = {row.id: row for row in Job.objects.all()}
        assert rows.keys() == self.jobs.keys()
        for job_id, row in rows.items():
            # Whatever has died: no job runs before all that it needs allows it.
            if row.state == State.READY and row.claimable:
                assert self.jobs[job_id].state == State.READY
        if self.behind:
            return
        found = {one: _state(row) for one, row in rows.items()}
        differing = {
            one: (found[one], job) for one, job in self.jobs.items() if found[one] != job.state
        }
        assert not differing, differing

    def teardown(self) -> None:
        """Let nothing go wrong any more: then every job ends, by its edges."""
        self.rescue()
        for claim in self.claims.values():
            if self.store.finish(claim, Succeeded()):
                self._end(claim.job_id, State.SUCCEEDED)
        self.claims.clear()
        self._settle()
        self.sweep()
        for _round in range(1 + len(self.jobs)):
            self.rows_are_as_modelled()
            ready = self._in(State.READY)
            for claim in self._claim(ready) if ready else ():
                self.store.finish(claim, Succeeded())
                self._end(claim.job_id, State.SUCCEEDED)
                self._settle()
        self.rows_are_as_modelled()
        assert not Job.objects.filter(state__in=LIVE).exists()

    # ---- the model ------------------------------------------------------------------------

    def _end(self, job_id: UUID, state: str) -> None:
        self.jobs[job_id].state = state
        if state != State.READY:
            self.jobs[job_id].cancel_requested = False
            self._mark(job_id, state)

    def _mark(self, job_id: UUID, state: str, *, only: Iterable[UUID] | None = None) -> None:
        """Note how a job has ended at those that wait for it."""
        for one in self.jobs if only is None else only:
            job = self.jobs[one]
            if job_id in job.needs and job.needs[job_id] is None:
                job.needs[job_id] = str(state)

    def _settle(self) -> None:
        """End or free those that wait, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for job_id, job in self.jobs.items():
                if job.state != WAITS:
                    continue
                outcomes = job.needs.values()
                bad = any(one not in {None, State.SUCCEEDED} for one in outcomes)
                if bad and job.on_failure != RUN:
                    self.seen.add(f"ended by another: {job.on_failure}")
                    self._end(job_id, ENDS[job.on_failure])
                    changed = True
                elif None not in outcomes:
                    self.seen.add(f"free: {job.on_failure if bad else 'all succeeded'}")
                    job.state = State.READY
                    job.needs = {}
                    changed = True

    def _ended_as(self, job_id: UUID) -> str | None:
        if job_id not in self.jobs:
            return GONE
        state = self.jobs[job_id].state
        return None if state in {WAITS, State.READY, State.RUNNING} else str(state)

    def _forget(self, job_ids: Iterable[UUID]) -> None:
        for one in job_ids:
            del self.jobs[one]

    # ---- steps of the steps ---------------------------------------------------------------

    @contextmanager
    def _dying(self, dies: bool) -> Iterator[None]:
        """Leave undone what is done after the commit, if the worker dies."""
        if not dies:
            yield
            return
        self.behind = True
        self.seen.add("died after its commit")
        with patch.object(Freeing, "_after_commit", lambda *_given: None):
            yield

    def _claim(self, job_ids: list[UUID], *, lease: timedelta = LEASE) -> list[Claim]:
        query = ClaimQuery(
            queue="default",
            limit=len(job_ids),
            worker_id=uuid4(),
            lease=lease,
            only=job_ids,
        )
        claims = self.store.claim(query)
        if not self.behind:
            assert {one.job_id for one in claims} == set(job_ids)
        return claims

    def _in(self, *states: str) -> list[UUID]:
        return [one for one, job in self.jobs.items() if job.state in states]

    def _pick(self, number: int, *states: str) -> UUID:
        some = self._in(*states) if states else list(self.jobs)
        return some[number % len(some)]


def _state(row: Job) -> str:
    waits = row.state == State.READY and row.waits_because == "jobs"
    return WAITS if waits else str(row.state)
