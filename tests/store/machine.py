"""The store and a model of it in Python, side by side: one random step after the other.

The model keeps of each job what the store promises about it; the rows are compared after each
step. Who waits aside under a limit is not modelled: of those jobs the promises are compared
(so many at once, in order), and that all of them end when nothing goes wrong any more.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aftercommit.models import LIVE, UNSUCCESSFUL, Dependency, Job, Lease, Rule, State
from aftercommit.store import store_for
from aftercommit.store.columns import unique_lock
from aftercommit.values import (
    TASK,
    Cancelled,
    Claim,
    ClaimQuery,
    Failed,
    Limit,
    NewJob,
    Outcome,
    Released,
    Retry,
    Succeeded,
)
from tests.store.given import ALREADY_OVER, ERROR, LEASE, MOST_CRASHES

LATER = timedelta(hours=1)
PLAIN, TWO_AT_ONCE, IN_ORDER = "tasks.plain", "tasks.two", "tasks.in_order"
LIMITS = {TWO_AT_ONCE: Limit(2), IN_ORDER: Limit(1, ordered=True)}
OUTCOMES: dict[str, Callable[[], Outcome]] = {
    "succeeded": Succeeded,
    "failed": lambda: Failed(ERROR),
    "retried at once": lambda: Retry(ERROR),
    "retried later": lambda: Retry(ERROR, LATER),
    "released": Released,
    "snoozed": lambda: Released(LATER),
    "conflict": lambda: Released(conflict=True),
    "cancelled": Cancelled,
}
ENDED_AS = {"succeeded": State.SUCCEEDED, "failed": State.FAILED, "cancelled": State.CANCELLED}
NO_ATTEMPT = {"released", "snoozed", "conflict"}
KINDS = st.sampled_from([PLAIN, PLAIN, TWO_AT_ONCE, IN_ORDER])
NUMBERS = st.integers(min_value=0, max_value=2**16)  # which of several, by the remainder


class RolledBack(Exception):
    """The transaction of the caller ends here."""


@dataclass(slots=True)
class Modelled:
    """What is known of a job."""

    task_path: str
    unique_key: str | None = None
    until_started: bool = False
    holds_key: bool = False
    state: str = State.READY
    token: int = 0
    attempts: int = 0
    crashes: int = 0
    conflicts: int = 0
    cancel_requested: bool = False
    lost: bool = False  # its lease is over


class Machine(RuleBasedStateMachine):
    """Steps through the transitions T0 to T10 in any order."""

    seen: ClassVar[set[str]] = set()  # what has happened, so that nothing is tested in vain

    def __init__(self) -> None:
        super().__init__()
        for model in (Job, Lease, Dependency, Rule):
            model.objects.all().delete()
        self.store = store_for("default")
        self.jobs: dict[UUID, Modelled] = {}
        self.claims: list[Claim] = []  # all that were ever made
        self.first: UUID | None = None  # of the ordered key: has started and not ended

    # ---- T0 -----------------------------------------------------------------------------

    @rule(
        kinds=st.lists(KINDS, min_size=2, max_size=6), later=st.booleans(), commits=st.booleans()
    )
    def enqueue(self, kinds: list[str], later: bool, commits: bool) -> None:
        """Enqueue several jobs in a transaction that commits or not."""
        with_delay = later and not set(kinds) & {IN_ORDER}
        run_after = self._in_future() if with_delay else None
        new = [
            NewJob(
                task_path=kind,
                payload="{}",
                limit_key=kind if kind in LIMITS else None,
                run_after=run_after,
            )
            for kind in kinds
        ]
        try:
            with transaction.atomic():
                self.store.insert(new)
                if not commits:
                    raise RolledBack
        except RolledBack:
            self.seen.add("rolled back")
            return
        self.jobs |= {one.id: Modelled(one.task_path) for one in new}

    @rule(key=st.sampled_from(["a", "A", "a "]), until_started=st.booleans())
    def enqueue_unique(self, key: str, until_started: bool) -> None:
        """Enqueue a job with a key: it is a new one, or that which holds the key."""
        new = NewJob(
            task_path=PLAIN, payload="{}", unique_key=key, unique_until_started=until_started
        )
        (job_id,) = self.store.insert([new])
        holders = [
            one for one, job in self.jobs.items() if job.holds_key and job.unique_key == key
        ]
        if holders:
            self.seen.add("unique key held")
            assert [job_id] == holders
        else:
            assert job_id == new.id
            self.jobs[job_id] = Modelled(
                PLAIN, unique_key=key, until_started=until_started, holds_key=True
            )

    # ---- T1 to T7 -----------------------------------------------------------------------

    @rule(limit=st.integers(min_value=1, max_value=9), dies=st.booleans())
    def claim(self, limit: int, dies: bool) -> None:
        """Claim what is due; if the worker dies, the lease is over at once."""
        due = [one for one in self._due() if self.jobs[one].task_path == PLAIN]
        claims = self._claim(limit, lease=ALREADY_OVER if dies else LEASE)
        plain = {one.job_id for one in claims if one.task_path == PLAIN}
        assert plain == set(due[: len(plain)])  # the most urgent ones
        if len(claims) < limit:
            assert plain == set(due)
        for one in claims:
            self.jobs[one.job_id].lost = dies

    @rule()
    def claim_all(self) -> None:
        """Claim whatever is due."""
        self.claim(99, dies=False)

    @precondition(lambda self: self.claims)
    @rule(number=NUMBERS, outcome=st.sampled_from(sorted(OUTCOMES)), passes=st.booleans())
    def finish(self, number: int, outcome: str, passes: bool) -> None:
        """End a run under any claim that was ever made: only the present one counts."""
        claim = self.claims[number % len(self.claims)]
        job = self.jobs.get(claim.job_id)
        present = job is not None and job.state == State.RUNNING and job.token == claim.token
        ended = self.store.finish_many([(claim, OUTCOMES[outcome]())])
        if job is None or not present:
            self.seen.add("fenced")
            assert ended == []
            return
        job.attempts -= outcome in NO_ATTEMPT
        job.conflicts += outcome == "conflict"
        state = ENDED_AS.get(outcome, State.READY)
        if job.cancel_requested and state == State.READY:
            state = State.CANCELLED
        self._end(claim.job_id, state)
        assert [(one.job_id, one.state) for one in ended] == [(claim.job_id, job.state)]
        if passes and claim.limit_key is not None:  # else its worker has died just now
            self._let_pass()

    @rule()
    def rescue(self) -> None:
        """Take the jobs of workers that have died."""
        rescued = self.store.rescue(max_crashes=MOST_CRASHES)
        lost = {one for one, job in self.jobs.items() if job.state == State.RUNNING and job.lost}
        assert {one.job_id for one in rescued} == lost
        for one in rescued:
            job = self.jobs[one.job_id]
            job.crashes += 1
            self._end(one.job_id, State.CANCELLED if job.cancel_requested else State.READY)
            assert one.state == job.state
            self.seen.add("rescued")

    # ---- T8 to T10 ----------------------------------------------------------------------

    @precondition(lambda self: self.jobs)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """Cancel a job, whatever its state."""
        job_id, job = self._some(number)
        answer = self.store.cancel([job_id])
        assert answer.requested == ({job_id} if job.state == State.RUNNING else set())
        if job.state == State.RUNNING:
            job.cancel_requested = True
        elif job.state == State.READY:
            self._end(job_id, State.CANCELLED)
            assert answer.cancelled == {job_id}

    @precondition(lambda self: self.jobs)
    @rule(number=NUMBERS)
    def retry(self, number: int) -> None:
        """Retry a job by hand, whatever its state."""
        job_id, job = self._some(number)
        answer = self.store.retry([job_id])
        if job.state not in UNSUCCESSFUL:
            assert not answer.ready
        elif self._is_held(job.unique_key):
            self.seen.add("clash at a retry")
            assert answer.clashed == {job_id}
        else:
            assert answer.ready == {job_id}
            job.state, job.cancel_requested = State.READY, False
            job.attempts = job.crashes = job.conflicts = 0
            job.holds_key = job.unique_key is not None

    @rule(states=st.sets(st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED])))
    def prune(self, states: set[str]) -> None:
        """Delete ended jobs."""
        gone = [one for one, job in self.jobs.items() if job.state in states]
        given = sorted(states)
        assert self.store.prune(older_than=timedelta(0), states=given) == len(gone)
        for one in gone:
            del self.jobs[one]

    # ---- time, pauses, lines ------------------------------------------------------------

    @rule()
    def tick(self) -> None:
        """Let the time pass until all is due."""
        Job.objects.filter(state=State.READY).update(run_after=F("run_after") - 2 * LATER)

    @rule(task=st.sampled_from([PLAIN, TWO_AT_ONCE]))
    def pause(self, task: str) -> None:
        """Pause a task and set its first jobs aside, as a worker does; then resume it."""
        self.store.pause(TASK, task, by="", why="")
        self.store.set_aside("default", [("default", 0)], {task})
        assert not [one for one in self._claim(9) if one.task_path == task and self._aside(one)]
        self.store.resume(TASK, task)
        while self.store.bring_back(task):
            self.seen.add("set aside")

    @rule()
    def let_pass(self) -> None:
        """Look at all lines, as each worker does now and then."""
        self._let_pass()

    # ---- what holds after each step -----------------------------------------------------

    @invariant()
    def rows_are_as_modelled(self) -> None:
        """Compare all rows with the model."""
        rows = {row.id: row for row in Job.objects.all()}
        assert rows.keys() == self.jobs.keys()
        for job_id, job in self.jobs.items():
            row = rows[job_id]
            found = (row.state, row.token, row.attempts, row.crashes, row.conflicts)
            assert found == (job.state, job.token, job.attempts, job.crashes, job.conflicts)
            assert row.cancel_requested == job.cancel_requested
            assert row.unique_lock == (unique_lock(job.unique_key) if job.holds_key else None)
            assert row.claimable <= (row.state == State.READY)

    def teardown(self) -> None:
        """Let nothing go wrong any more: then every job ends."""
        self._succeed(self.claims)
        for _round in range(4 + 2 * len(self.jobs)):
            self.tick()
            self.rescue()
            self._let_pass()
            self._succeed(self._claim(100))
        assert not Job.objects.filter(state__in=LIVE).exists()

    # ---- steps of the steps -------------------------------------------------------------

    def _succeed(self, claims: list[Claim]) -> None:
        for claim in claims:
            if self.store.finish(claim, Succeeded()):
                self._end(claim.job_id, State.SUCCEEDED)

    def _claim(self, limit: int, *, lease: timedelta = LEASE) -> list[Claim]:
        before = self._due()
        query = ClaimQuery(
            queue="default", limit=limit, worker_id=uuid4(), lease=lease, limit_of=LIMITS.get
        )
        claims = self.store.claim(query)
        assert len(claims) <= limit
        assert {one.job_id for one in claims} <= set(before)
        for one in claims:
            job = self.jobs[one.job_id]
            job.state, job.lost = State.RUNNING, False
            job.token += 1
            job.attempts += 1
            job.holds_key = job.holds_key and not job.until_started
            assert (one.token, one.attempt) == (job.token, job.attempts)
        self.claims += claims
        self._check_limits()
        self._check_order(before, [one.job_id for one in claims])
        return claims

    def _check_limits(self) -> None:
        """Compare the number of running jobs of each key with its limit."""
        running = [job.task_path for job in self.jobs.values() if job.state == State.RUNNING]
        for path, limit in LIMITS.items():
            assert running.count(path) <= limit.slots
            if running.count(path) == limit.slots:
                self.seen.add(f"full: {path}")

    def _check_order(self, due: list[UUID], claimed: list[UUID]) -> None:
        """Of an ordered key the first job is claimed, and no other one until it has ended."""
        line = [one for one in due if self.jobs[one].task_path == IN_ORDER]
        for one in claimed:
            if one in line:
                assert one == (self.first or line[0])
                self.seen.add("in order" if self.first is None else "in order, once more")
                self.first = one

    def _let_pass(self) -> None:
        self.store.let_pass(dict(LIMITS))

    def _due(self) -> list[UUID]:
        """Return the jobs that are ready and due, the most urgent first."""
        due = Job.objects.filter(state=State.READY, run_after__lte=self.store._clock())
        return list(due.order_by("-priority", "run_after", "id").values_list("id", flat=True))

    def _end(self, job_id: UUID, state: str) -> None:
        """Note the end of a run, or of a job."""
        job = self.jobs[job_id]
        job.state, job.lost = state, False
        job.holds_key = job.holds_key and state == State.READY
        if self.first == job_id and state != State.READY:
            self.first = None

    def _is_held(self, key: str | None) -> bool:
        return key is not None and any(
            job.holds_key and job.unique_key == key for job in self.jobs.values()
        )

    def _aside(self, claim: Claim) -> bool:
        return Dependency.objects.filter(job_id=claim.job_id).exists()

    def _some(self, number: int) -> tuple[UUID, Modelled]:
        return list(self.jobs.items())[number % len(self.jobs)]

    def _in_future(self) -> Any:
        return self.store._clock() + LATER
