"""Schedules: what one transition does while another is on its way, statement by statement.

A world is a job in some state. In it the outer transition runs in the test's thread, and
just before one of its statements, or just before its COMMIT, the inner one runs as a whole
on another connection; if that must wait for a lock, the outer one goes on.
"""

from collections.abc import Callable
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import OperationalError, connection, transaction

from aftercommit.models import Job, Lease
from aftercommit.store.base import Store, unique_lock
from aftercommit.store.claim import jobs_of_lease
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.table import held_jobs
from aftercommit.values import Cancelled, Claim, Failed, Outcome, Released, Retry, Succeeded
from tests.store.callers import Caller, answer, at_statement, statements
from tests.store.given import ALREADY_OVER, ERROR, LEASE, LONG_AGO, MOST_CRASHES, claim_all
from tests.store.history import Change, forget_history, history

BEFORE_COMMIT = -1
PAYLOAD = '{"args":[],"kwargs":{}}'
NOTHING = ((), False, 0, None)  # what a transition answers that changed nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """One job, and the claims on it."""

    job_id: UUID
    claim: Claim | None = None  # of its owner
    stale: Claim | None = None  # of one who was its owner


# ---- worlds: rows as the transitions leave them, written at once -------------------------


def ready(store: Store) -> World:
    """Make a job that is due."""
    return World(job_id=_row(state="ready"))


def running(store: Store) -> World:
    """Make a job that runs although its lease is over."""
    owner = uuid4()
    job_id = _row(attempts=1, **_claimed(token=1, by=owner))
    claim = _claim(job_id, token=1, by=owner)
    _lease(claim, span=ALREADY_OVER)
    return World(job_id=job_id, claim=claim)


def failed(store: Store) -> World:
    """Make a job that failed for good."""
    long_ago = in_future(LONG_AGO)
    ended = {"state": "failed", "claimable": False, "unsuccessful": True}
    ended |= {"finished_at": long_ago, "unique_lock": None}
    job_id = _row(token=1, attempts=1, **ended)
    return World(job_id=job_id, claim=_claim(job_id, token=1, by=uuid4()))


def taken_over(store: Store) -> World:
    """Make a job that a second worker runs, while the first does not know.

    The first one's lease is still there, because of another job that it holds.
    """
    first, second = uuid4(), uuid4()
    job_id = _row(attempts=2, crashes=1, **_claimed(token=2, by=second))
    current, stale = _claim(job_id, token=2, by=second), _claim(job_id, token=1, by=first)
    _lease(current, span=ALREADY_OVER)
    _lease(stale, span=LEASE)
    return World(job_id=job_id, claim=current, stale=stale)


def rescued(store: Store) -> World:
    """Make a job that is ready again, while its first worker does not know."""
    job_id = _row(state="ready", token=1, attempts=1, crashes=1)
    stale = _claim(job_id, token=1, by=uuid4())
    return World(job_id=job_id, claim=stale, stale=stale)


def _row(**given: Any) -> UUID:
    plain = {"task_path": "tests.app.tasks.add", "payload": PAYLOAD, "unique_key": "key"}
    moments = {"run_after": in_future(LONG_AGO), "enqueued_at": in_future(LONG_AGO)}
    row = {**plain, **moments, "unique_lock": unique_lock("key"), **given}
    return Job.objects.bulk_create([Job(**row)])[0].id


def _claimed(*, token: int, by: UUID) -> dict[str, Any]:
    return {"state": "running", "claimable": False, "token": token, "worker_id": by}


def _lease(claim: Claim, *, span: timedelta) -> None:
    Lease.objects.create(
        id=claim.lease_id,
        worker_id=claim.worker_id,
        lease_until=in_future(span),
        jobs=jobs_of_lease([(str(claim.job_id), claim.token)]),
    )


def _claim(job_id: UUID, *, token: int, by: UUID) -> Claim:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    return Claim(
        job_id=job_id,
        token=token,
        worker_id=by,
        lease_id=uuid4(),
        attempt=token,
        crashes=token - 1,
        conflicts=0,
        max_attempts=5,
        task_path="tests.app.tasks.add",
        payload=PAYLOAD,
        errors="[]",
        backend="default",
        queue="default",
        priority=0,
        tags=None,
        headers=None,
        run_after=moment,
        enqueued_at=moment,
        started_at=moment,
        claimed_at=moment,
    )


# ---- transitions --------------------------------------------------------------------

Transition = Callable[[Store, World], Any]


def t1_claim(store: Store, world: World) -> Any:
    """Claim; answer with the tokens."""
    return tuple(claim.token for claim in claim_all(store))


def t2_renew(store: Store, world: World) -> Any:
    """Renew as the owner."""
    held = world.claim and store.renew([world.claim], lease=LEASE)
    return bool(held and held.held)


def finish_with(outcome: Outcome) -> Transition:
    """Finish as the owner; answer with what was written."""

    def finish(store: Store, world: World) -> Any:
        ended = world.claim and store.finish(world.claim, outcome)
        return ended and (ended.state, ended.job_id == world.job_id)

    return finish


def t6_rescue(store: Store, world: World) -> Any:
    """Rescue; answer with the new states."""
    return tuple(one.state for one in store.rescue(max_crashes=MOST_CRASHES))


def t8_cancel(store: Store, world: World) -> Any:
    """Cancel; answer with what became of the job."""
    answered = store.cancel([world.job_id])
    return "cancelled" if answered.cancelled else "requested" if answered.requested else None


def t9_retry(store: Store, world: World) -> Any:
    """Give a second life."""
    return bool(store.retry([world.job_id]).ready)


def t10_prune(store: Store, world: World) -> Any:
    """Delete whatever has finished."""
    return store.prune(older_than=ALREADY_OVER)


TRANSITIONS: dict[str, Transition] = {
    "T1 claim": t1_claim,
    "T2 renew": t2_renew,
    "T3 succeed": finish_with(Succeeded("1")),
    "T4 retry after an error": finish_with(Retry(ERROR)),
    "T5 fail": finish_with(Failed(ERROR)),
    "T6 rescue": t6_rescue,
    "T7 release": finish_with(Released()),
    "T8 cancel": t8_cancel,
    "T8' end on request": finish_with(Cancelled(ERROR)),
    "T9 retry by hand": t9_retry,
    "T10 prune": t10_prune,
}
OF_OWNERS = [name for name in TRANSITIONS if name[:2] in {"T2", "T3", "T4", "T5", "T7"}]
OF_OWNERS.append("T8' end on request")
# These pass over a locked row, and answer so: they come again, and have not happened yet.
PASSES_OVER: dict[str, tuple[Any, ...]] = {
    "T1 claim": ((),),
    "T2 renew": (True,),  # still ours, as far as anything is committed
    "T6 rescue": ((),),
    "T10 prune": (0,),
}
# Where each transition has something to do.
STARTS = [
    (ready, "T1 claim"),
    (ready, "T8 cancel"),
    *((running, name) for name in OF_OWNERS),
    (running, "T6 rescue"),
    (running, "T8 cancel"),
    (failed, "T9 retry by hand"),
    (failed, "T10 prune"),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a schedule led to."""

    outer: Any
    inner: Any
    row: tuple[Any, ...] | None
    changes: list[Change] = field(default_factory=list)  # of the row, as the trigger saw them
    waited: bool = False  # the inner one, for a lock of the outer one


def new_world(store: Store, make: Callable[[Store], World]) -> World:
    """Begin anew."""
    with transaction.atomic():  # one commit, for servers that wait for disks
        Job.objects.all().delete()
        Lease.objects.all().delete()
        world = make(store)
        forget_history()
    return world


def in_turn(store: Store, make: Callable[[Store], World], *transitions: Transition) -> list[Any]:
    """Let transitions follow each other; return their answers, the row and its changes."""
    world = new_world(store, make)
    answers = [transition(store, world) for transition in transitions]
    return [*answers, row_of(world), history()]


def row_of(world: World) -> tuple[Any, ...] | None:
    """Return what counts in the job's row, so that two runs can be compared."""
    row = Job.objects.annotate(now=DatabaseNow()).filter(id=world.job_id).first()
    if row is None:
        return None
    owner = world.claim is not None and row.worker_id == world.claim.worker_id
    return (
        str(row.state),
        row.token,
        (row.attempts, row.crashes, row.conflicts, len(row.error_list)),
        (row.worker_id is not None, owner, row.cancel_requested, row.unique_lock is not None),
        leases_of(world),
        (row.finished_at is not None, row.result, row.claimable, row.unsuccessful),
    )


def leases_of(world: World) -> list[tuple[int, bool]]:
    """Return the tokens under which leases hold the job, and whether each lease lasts."""
    rows = Lease.objects.annotate(now=DatabaseNow())
    return sorted((held_jobs(row)[world.job_id], row.lease_until > row.now) for row in rows)


def borders(store: Store, make: Callable[[Store], World], outer: Transition) -> list[int]:
    """Return the statements before which something can happen, and the COMMIT.

    Not before the first: that is one after the other.
    """
    world = new_world(store, make)
    with statements() as found:
        outer(store, world)
    return [*range(1, len(found)), BEFORE_COMMIT]


class Inner:
    """The inner transition: runs as a whole, or waits until the outer one is through."""

    def __init__(self, caller: Caller, act: Callable[[], Any]) -> None:
        self._caller = caller
        self._act = act
        self._begun: Future[Any] | None = None
        self.waited = False

    def run(self) -> None:
        """Begin, and return once it has ended or waits."""
        self._begun = self._caller.start(self._act)
        if connection.vendor != "sqlite":
            self.waited = self._caller.must_wait(self._begun)
            return
        try:
            answer(self._begun)
        except OperationalError as error:
            # One writer at a time, and this one does not wait: it comes after the other.
            assert "locked" in str(error)
            self.waited = True

    def answer(self) -> Any:
        """Return its answer, the outer one being through."""
        assert self._begun is not None, "there was no such statement"
        if connection.vendor == "sqlite" and self.waited:
            return self._caller.do(self._act)
        return answer(self._begun)


def run_schedule(
    store: Store,
    caller: Caller,
    make: Callable[[Store], World],
    outer: Transition,
    inner: Transition,
    border: int,
) -> Seen:
    """Run one schedule from the start."""
    world = new_world(store, make)
    other = Inner(caller, lambda: inner(store, world))
    if border == BEFORE_COMMIT:
        with transaction.atomic():
            outer_answer = outer(store, world)
            other.run()
    else:
        with at_statement(border, other.run) if border else nullcontext():
            outer_answer = outer(store, world)
    inner_answer = other.answer()
    return Seen(
        outer=outer_answer,
        inner=inner_answer,
        row=row_of(world),
        changes=history(),
        waited=other.waited,
    )
