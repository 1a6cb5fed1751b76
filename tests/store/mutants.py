"""Our guards, each weakened in memory: what the tests of this folder must notice."""

from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from threading import Lock
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet

from aftercommit.models import Job, Lease, State
from aftercommit.store import clock, operations, selecting, unique
from aftercommit.store import finish as finishing
from aftercommit.store import rescue as rescuing
from aftercommit.store.base import Store
from aftercommit.store.claim import Claims, jobs_of_lease
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.columns import CLAIMED, claim_from
from aftercommit.store.finish import Ending
from aftercommit.store.insert import Inserting
from aftercommit.store.mysql import store as mysql
from aftercommit.store.operations import Operations
from aftercommit.store.rescue import Rescue, Rescued
from aftercommit.store.selecting import Finding
from aftercommit.store.sqlite import store as sqlite
from aftercommit.store.table import Table, held_jobs
from aftercommit.store.unique import Placed
from aftercommit.values import ClaimQuery, Ended, NewJob, OnConflict, Renewed

POSTGRESQL = connection.vendor == "postgresql"
CHOICES = ("IN_GROUPS", "FROM_POSITION", "NAMED")  # of due jobs, on PostgreSQL
Weaken = Callable[[pytest.MonkeyPatch, type[Store]], None]


def postgresql() -> ModuleType:
    """Return the module of PostgreSQL's store, whose driver need not be there."""
    from aftercommit.store.postgresql import store as module  # noqa: PLC0415

    return module


def rewrite(
    patch: pytest.MonkeyPatch, module: ModuleType, name: str, *changes: tuple[str, str]
) -> None:
    """Change the text of an SQL statement; each of the texts must be there."""
    text = getattr(module, name)
    for old, new in changes:
        assert old in text, f"{name} does not say {old!r}"
        text = text.replace(old, new)
    patch.setattr(module, name, text)


# ---- the fence ----------------------------------------------------------------------


def _fence(patch: pytest.MonkeyPatch, *, token: bool, state: bool) -> None:
    def mine(self: Table, job_id: Any, its_token: int) -> Any:
        rows = self._jobs.filter(id=job_id)
        rows = rows.filter(token=its_token) if token else rows
        return rows.filter(state=State.RUNNING) if state else rows

    patch.setattr(Table, "_mine", mine)
    if not POSTGRESQL:
        return
    no_token = [
        ("AND job.token = ended.token", ""),
        ("AND job.token = mine.token", ""),
    ]
    no_state = [("job.state = 'running'", "true"), ("AND job.state = mine.held", "")]
    fence = [*([] if token else no_token), *([] if state else no_state)]
    for name in ("FINISH", "SUCCEED"):
        rewrite(patch, postgresql(), name, *fence)


def _renew(
    patch: pytest.MonkeyPatch, *, token: bool = True, state: bool = True, lease: bool = True
) -> None:
    if POSTGRESQL:
        weak = [] if token else [("AND job.token = held.token", "")]
        weak += [] if state else [("AND job.state = 'running'", "")]
        weak += (
            [] if lease else [("WHERE held.lease_id IN (SELECT id FROM aftercommit_lease)", "")]
        )
        rewrite(patch, postgresql(), "RENEW", *weak)
        return

    def renew(self: Claims, claims: Any, *, lease: Any) -> Renewed:
        wanted = {claim.job_id: claim for claim in claims}
        with self._write():
            leases = self._leases.filter(id__in={claim.lease_id for claim in wanted.values()})
            free = list(self._locked(leases, skip=True).values_list("id", flat=True))
            self._leases.filter(id__in=free).update(lease_until=in_future(lease))
            held = set(leases.values_list("id", flat=True))
            rows = self._jobs.filter(id__in=wanted)
            valid = {
                row.id: row.cancel_requested
                for row in rows
                if (not token or row.token == wanted[row.id].token)
                and (not state or row.state == State.RUNNING)
                and (not needs_lease or wanted[row.id].lease_id in held)
            }
            return Renewed(valid, frozenset(free))

    needs_lease = lease
    patch.setattr(Claims, "renew", renew)


def good_ends_without_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask of many good ends only whether the jobs are running."""
    if POSTGRESQL:
        no_token = [("AND job.token = ended.token", ""), ("AND job.token = mine.token", "")]
        rewrite(patch, postgresql(), "SUCCEED", *no_token)
    else:
        token = "AND aftercommit_job.token = json_extract(ended.value, '$[1]')"
        rewrite(patch, sqlite, "SUCCEED", (token, ""))


def good_ends_without_state(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask of many good ends only for the token."""
    if POSTGRESQL:
        no_state = [("job.state = 'running'", "true"), ("AND job.state = mine.held", "")]
        rewrite(patch, postgresql(), "SUCCEED", *no_state)
    else:
        rewrite(patch, sqlite, "SUCCEED", ("AND aftercommit_job.state = 'running'", ""))
        rewrite(patch, mysql, "HELD", ("AND state = 'running'", ""))


def fence_without_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask only whether the job is running."""
    _fence(patch, token=False, state=True)
    _renew(patch, token=False)


def fence_without_state(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask only for the token."""
    _fence(patch, token=True, state=False)
    _renew(patch, state=False)


def no_fence(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Write by id."""
    _fence(patch, token=False, state=False)
    _renew(patch, token=False, state=False)


def renew_without_a_lease(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask only for the job, not whether its lease is there."""
    _renew(patch, lease=False)


def rescue_gives_the_token_back(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Make one number of token and attempts."""
    rescue_one = Rescue._rescue_one

    def and_token(self: Rescue, row: Job, *more: Any) -> Rescued | None:
        rescued = rescue_one(self, row, *more)
        if rescued is not None:
            self._jobs.filter(id=row.id).update(token=F("token") - 1)
        return rescued

    patch.setattr(Rescue, "_rescue_one", and_token)


def release_gives_the_token_back(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give the token back with the attempt."""
    if POSTGRESQL:
        refund = "attempts = job.attempts - mine.refund"
        both = f"{refund}, token = job.token - mine.refund"
        rewrite(patch, postgresql(), "FINISH", (refund, both))
        return
    plain = finishing.changes

    def and_token(end: Ending) -> dict[str, Any]:
        update = plain(end)
        return {**update, "token": F("token") - 1} if "attempts" in update else update

    patch.setattr(finishing, "changes", and_token)


def save_instead_of_update(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Read the row, look whether it is ours, write it back."""

    def finish(self: Store, claim: Any, outcome: Any) -> Ended | None:
        row = self._mine(claim.job_id, claim.token).first()
        if row is None:
            return None
        end = finishing.ending(claim, outcome)
        for name, value in finishing.changes(end).items():
            setattr(row, name, value)
        row.save()
        return Ended(claim.job_id, end.state)

    patch.setattr(store, "finish", finish)


def nobody_counts_rows(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take every write for a success."""
    finish, finish_many = store.finish, store.finish_many

    def and_all_is_well(self: Store, claim: Any, outcome: Any) -> Ended:
        finish(self, claim, outcome)
        return as_asked(claim, outcome)

    def and_all_are_ours(self: Store, ended: Any) -> list[Ended]:
        finish_many(self, ended)
        return [as_asked(claim, outcome) for claim, outcome in ended]

    def as_asked(claim: Any, outcome: Any) -> Ended:
        return Ended(claim.job_id, finishing.ending(claim, outcome).state)

    patch.setattr(store, "finish", and_all_is_well)
    patch.setattr(store, "finish_many", and_all_are_ours)


def a_request_is_forgotten(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Make a job ready again although its end was asked for."""
    if POSTGRESQL:
        asked = "AND locked.cancel_requested THEN"
        rewrite(patch, postgresql(), "FINISH", (asked, "AND false THEN"))
        return
    patch.setattr(Ending, "cancelled", lambda end: end)


def told_as_asked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Answer with what the caller wanted, not with what was written."""
    finish, finish_many = store.finish, store.finish_many

    def one(self: Store, claim: Any, outcome: Any) -> Ended | None:
        return finish(self, claim, outcome) and as_asked(claim, outcome)

    def many(self: Store, ended: Any) -> list[Ended]:
        written = {one.job_id for one in finish_many(self, ended)}
        return [as_asked(*one) for one in ended if one[0].job_id in written]

    def as_asked(claim: Any, outcome: Any) -> Ended:
        return Ended(claim.job_id, finishing.ending(claim, outcome).state)

    patch.setattr(store, "finish", one)
    patch.setattr(store, "finish_many", many)


def error_without_release_of_the_key(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give a key back although the job will run again."""
    if POSTGRESQL:
        kept = "unique_lock = CASE WHEN mine.state = 'ready' THEN job.unique_lock END"
        rewrite(patch, postgresql(), "FINISH", (kept, "unique_lock = NULL"))
        return
    plain = finishing.changes
    patch.setattr(finishing, "changes", lambda end: {**plain(end), "unique_lock": None})


# ---- the claim ----------------------------------------------------------------------


def claim_waits(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim without SKIP LOCKED."""
    module, names = (postgresql(), CHOICES) if POSTGRESQL else (mysql, ["DUE", "NAMED"])
    for name in names:
        rewrite(patch, module, name, ("SKIP LOCKED", ""))


def claim_is_select_then_update(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Find due jobs, then take them by their ids."""

    def claim(self: Store, query: ClaimQuery) -> Any:
        due = self.due(limit=query.limit)
        if not due:
            return []
        self._jobs.filter(id__in=due).update(
            state=State.RUNNING,
            claimable=False,
            token=F("token") + 1,
            attempts=F("attempts") + 1,
            worker_id=query.worker_id,
            claimed_at=DatabaseNow(),
            started_at=DatabaseNow(),
        )
        rows = list(self._jobs.filter(id__in=due).values_list(*CLAIMED))
        lease = self._leases.create(
            id=uuid4(),
            worker_id=query.worker_id,
            lease_until=in_future(query.lease),
            jobs=jobs_of_lease((str(row[0]), row[1]) for row in rows),
        )
        return [claim_from(row, worker_id=query.worker_id, lease_id=lease.id) for row in rows]

    patch.setattr(store, "claim", claim)


def claim_locks_the_whole_row(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim with FOR UPDATE."""
    for name in CHOICES:
        rewrite(patch, postgresql(), name, ("FOR NO KEY UPDATE", "FOR UPDATE"))


def claim_whatever_has_the_flag(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Trust the flag, which version 0.1 does not write."""
    if POSTGRESQL:
        for name in CHOICES:
            rewrite(patch, postgresql(), name, ("AND state = 'ready'", ""))
        return
    module = mysql if connection.vendor == "mysql" else sqlite
    for name in ("DUE", "NAMED"):
        rewrite(patch, module, name, ("AND state = 'ready'", ""))
    rewrite(patch, module, "CLAIM", ("WHERE state = 'ready' AND id IN", "WHERE id IN"))


def claim_in_any_order_of_backends(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Sort backends by their names."""
    claim = store.claim

    def sorted_by_name(self: Store, query: ClaimQuery) -> Any:
        return claim(self, replace(query, backends=sorted(query.backends)))

    patch.setattr(store, "claim", sorted_by_name)


def _after_claim(
    patch: pytest.MonkeyPatch, store: type[Store], spoil: Callable[[Any], None]
) -> None:
    claim = store.claim

    def and_spoil(self: Store, query: ClaimQuery) -> Any:
        claims = claim(self, query)
        spoil(self._leases.filter(id__in={one.lease_id for one in claims}))
        return claims

    patch.setattr(store, "claim", and_spoil)


def claim_without_a_lease(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not write down that the jobs are held."""
    _after_claim(patch, store, lambda leases: leases.delete())


def lease_with_the_token_before(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Write down the tokens that the jobs had before they were claimed."""

    def one_less(leases: Any) -> None:
        for lease in leases:
            held = ((str(job_id), token - 1) for job_id, token in held_jobs(lease).items())
            leases.filter(id=lease.id).update(jobs=jobs_of_lease(held))

    _after_claim(patch, store, one_less)


def lease_of_one_job_only(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Write down the first job of a claim."""

    def first(leases: Any) -> None:
        for lease in leases:
            ((job_id, token), *_rest) = held_jobs(lease).items()
            leases.filter(id=lease.id).update(jobs=jobs_of_lease([(str(job_id), token)]))

    _after_claim(patch, store, first)


def ended_leases_stay(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave the leases that have ended."""
    claim = store.claim
    patch.setattr(store, "claim", lambda self, query: claim(self, replace(query, ended=())))
    patch.setattr(Claims, "end_leases", lambda self, lease_ids: None)


def ended_leases_are_waited_for(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete leases without SKIP LOCKED."""
    if POSTGRESQL:
        rewrite(patch, postgresql(), "ENDED", ("FOR UPDATE SKIP LOCKED", "FOR UPDATE"))
    rescue_waits(patch, store)


def claim_as_the_session_is(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim in the session's own isolation."""
    patch.setattr(store, "_write", lambda self: transaction.atomic(using=self.alias))


def the_clock_of_the_transaction(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let the time stand still in a transaction."""
    for name in CHOICES:
        rewrite(patch, postgresql(), name, ("statement_timestamp()", "now()"))


def the_clock_of_the_session(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take the session's time for UTC."""
    rewrite(patch, mysql, "DUE", ("UTC_TIMESTAMP(6)", "CURRENT_TIMESTAMP(6)"))
    due = mysql.MySQLStore.due_sql.replace("UTC_TIMESTAMP(6)", "CURRENT_TIMESTAMP(6)")
    patch.setattr(mysql.MySQLStore, "due_sql", due)


def leases_by_the_clock_of_the_session(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take Django's own Now(), which on MySQL is the session's time."""
    as_mysql = clock.DatabaseNow.as_mysql

    def in_session_time(self: Any, compiler: Any, connection: Any, **context: Any) -> Any:
        sql, params = as_mysql(self, compiler, connection, **context)
        return sql.replace("UTC_TIMESTAMP", "CURRENT_TIMESTAMP"), params

    patch.setattr(clock.DatabaseNow, "as_mysql", in_session_time)


# ---- rescue -------------------------------------------------------------------------


def rescue_from_a_stale_read(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Read who is silent, later write by id."""

    def rescue(self: Store, *, max_crashes: int, **_: Any) -> list[Rescued]:
        leases = list(self._leases.filter(lease_until__lt=DatabaseNow()))
        held = [(job_id, lease) for lease in leases for job_id in held_jobs(lease)]
        for job_id, _lease in held:
            self._jobs.filter(id=job_id).update(
                state=State.READY, claimable=True, crashes=F("crashes") + 1, worker_id=None
            )
        self._leases.filter(id__in=[lease.id for lease in leases]).delete()
        return [
            Rescued(
                job_id=job_id,
                worker_id=lease.worker_id,
                task_path="",
                queue="",
                crashes=1,
                state="ready",
            )
            for job_id, lease in held
        ]

    patch.setattr(store, "rescue", rescue)


def rescue_without_a_second_look(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not ask again whether the lease is over."""
    rescue_lease = Rescue._rescue_lease

    def anyway(self: Rescue, lease_id: Any, _lost: Q, *more: Any, limit: int) -> Any:
        return rescue_lease(self, lease_id, Q(), *more, limit=limit)

    patch.setattr(Rescue, "_rescue_lease", anyway)


def rescue_whatever_the_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take all jobs that a lease names and that run, whoever runs them."""

    def running(self: Rescue, held: Any) -> list[Any]:
        rows = self._jobs.filter(id__in=held, state=State.RUNNING)
        return list(rows.values_list("id", flat=True))

    patch.setattr(Rescue, "running_under", running)
    rescue_by_an_old_token(patch, store)


def rescue_by_an_old_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not look at the token again once the job is locked."""
    rescue_jobs = Rescue._rescue_jobs

    def any_token(self: Rescue, *given: Any, limit: int, held: Any = None) -> Any:
        return rescue_jobs(self, *given, limit=limit)

    patch.setattr(Rescue, "_rescue_jobs", any_token)


def rescue_without_the_lease(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not lock the lease, so that it can be renewed meanwhile."""
    locked = Table._locked

    def but_no_lease(self: Table, rows: Any, *, skip: bool = False) -> Any:
        return rows if rows.model is Lease else locked(self, rows, skip=skip)

    patch.setattr(Rescue, "_locked", but_no_lease)


def rescue_deletes_every_lease(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete a lease although a job of it is left."""
    rescue_lease = Rescue._rescue_lease

    def and_delete(self: Rescue, lease_id: Any, *given: Any, limit: int) -> Any:
        rescued = rescue_lease(self, lease_id, *given, limit=limit)
        self._leases.filter(id=lease_id).delete()
        return rescued

    patch.setattr(Rescue, "_rescue_lease", and_delete)


def rescue_keeps_every_lease(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Leave the lease although no job of it is left."""
    running_under = Rescue.running_under
    patch.setattr(
        Rescue, "running_under", lambda self, held: running_under(self, held) or [uuid4()]
    )


def rescue_in_any_order(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Begin with the lease that was over last."""
    leases = Table._leases.fget

    class Backwards(QuerySet):
        def order_by(self, *names: str) -> Any:
            return super().order_by(*[f"-{name}" for name in names])

    def backwards(self: Table) -> Any:
        rows = leases(self)
        return Backwards(Lease, using=rows.db)

    patch.setattr(Table, "_leases", property(backwards))


def jobs_of_the_version_before_are_forgotten(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Rescue only what has a row of its own for its lease."""
    patch.setattr(Rescue, "_rescue_without_lease", lambda self, *given, limit: [])


def every_death_is_blamed(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take each job on board for the cause of the death."""
    rescue_one = Rescue._rescue_one
    patch.setattr(Rescue, "_rescue_one", lambda *given: rescue_one(*given[:-1], "signal SIGKILL"))


def no_death_is_blamed(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take no job for the cause of a death."""
    rescue_one = Rescue._rescue_one
    patch.setattr(Rescue, "_rescue_one", lambda *given: rescue_one(*given[:-1], None))


def blame_outlasts_a_retry(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Count the deaths before a retry by hand as well."""
    given_up = rescuing.is_given_up

    def for_ever(errors: str, *, runs: int, **more: int) -> bool:
        return given_up(errors, runs=0, **more)  # [-0:] is all of them

    patch.setattr(rescuing, "is_given_up", for_ever)


def rescue_waits(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Rescue without SKIP LOCKED."""
    patch.setattr(Table, "_locked", lambda self, rows, skip=False: rows.select_for_update())


def rescue_locks_the_whole_row(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Rescue with FOR UPDATE."""
    patch.setattr(
        Table,
        "_locked",
        lambda self, rows, skip=False: rows.select_for_update(skip_locked=skip),
    )


def renew_waits(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Renew without SKIP LOCKED."""
    if POSTGRESQL:
        rewrite(patch, postgresql(), "RENEW", ("SKIP LOCKED", ""))
    else:
        rescue_waits(patch, store)


def plain_begin(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Begin to write without saying so."""

    @contextmanager
    def write(self: Store) -> Any:
        before, self.connection.transaction_mode = self.connection.transaction_mode, None
        try:
            with transaction.atomic(using=self.alias):
                yield
        finally:
            self.connection.transaction_mode = before

    patch.setattr(sqlite.SQLiteStore, "_write", write)


def any_index_will_do(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not reach rows by the primary key, as the optimizer does for some statistics."""
    by_another = [
        (one, text.replace("FORCE INDEX (PRIMARY)", "IGNORE INDEX (PRIMARY)"))
        for one, text in mysql.FORCED
    ]
    patch.setattr(mysql, "FORCED", by_another)


# ---- enqueue ------------------------------------------------------------------------


def repeated_as_if_new(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget, when repeating, that the first time may have succeeded."""
    insert_rows = store._insert_rows
    patch.setattr(
        store, "_insert_rows", lambda self, jobs, or_skip: insert_rows(self, jobs, or_skip=False)
    )


def repeated_alike_as_if_new(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Forget the same where they were told to be alike."""
    insert = store._insert_alike
    patch.setattr(
        store, "_insert_alike", lambda self, jobs, repeated: insert(self, jobs, repeated=False)
    )


def repeated_in_manual_transactions(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take a transaction that was begun by hand for none."""
    patch.setattr(Table, "_in_transaction", lambda self: self.connection.in_atomic_block)


def a_holder_may_start_early(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Name the holder of a key without holding it back."""
    patch.setattr(store, "_holder", Inserting._holder)


def a_holder_is_changed_unlocked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Look at a holder that is to be changed as at one that is only named, or not at all."""
    a_holder_may_start_early(patch, store)


def a_holder_is_changed_although_it_has_started(
    patch: pytest.MonkeyPatch, store: type[Store]
) -> None:
    """Write new arguments to whoever holds the key."""

    def met(self: Store, holder: Job, job: NewJob, rule: OnConflict) -> Placed:
        if holder.id == job.id:
            return Placed(job.id)
        self._jobs.filter(id=holder.id).update(payload=job.payload)
        return Placed(holder.id, holder)

    patch.setattr(store, "_met", met)


def one_try_at_a_key(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give up if the holder of a key is gone when it is looked at."""
    patch.setattr(unique, "TRIES_AT_UNIQUE_KEY", 1)


def told_without_a_row(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let those who find somebody else at their key trust that he will succeed."""
    place_one = store._place_one
    at_work: dict[str, Lock] = defaultdict(Lock)

    def place(self: Store, job: NewJob, lock: str, rule: OnConflict) -> Placed:
        if not at_work[lock].acquire(blocking=False):
            return Placed(job.id)
        try:
            return place_one(self, job, lock, rule)
        finally:
            at_work[lock].release()

    patch.setattr(store, "_place_one", place)


def a_clash_is_an_error(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let the database's refusal of a second key reach whoever retries by hand."""
    patch.setattr(operations, "IntegrityError", type("Never", (Exception,), {}))


def retry_without_its_key(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Give a job its second life, but not its key."""
    patch.setattr(operations, "unique_lock", lambda key: None)


def an_own_job_is_another(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take the job that this call has inserted for one of somebody else."""
    met = store._met

    def met_anyone(self: Store, holder: Job, job: NewJob, rule: OnConflict) -> Placed | None:
        return met(self, holder, replace(job, id=uuid4()), rule)

    patch.setattr(store, "_met", met_anyone)


def a_running_holder_is_locked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Lock whoever holds the key."""
    if POSTGRESQL:
        rewrite(patch, postgresql(), "READY_HOLDER", ("AND state = 'ready'", ""))
    else:
        patch.setattr(store, "_reads_committed", lambda self: False)


# ---- operations ---------------------------------------------------------------------


def cancel_running_as_if_ready(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """End running jobs at once."""

    def cancel(self: Store, job_ids: Any, among: Q, requested: Any) -> list[Ended]:
        live = self._jobs.filter(id__in=job_ids, state__in=["ready", "running"])
        ended = [Ended(job_id, "cancelled") for job_id in live.values_list("id", flat=True)]
        live.update(
            state="cancelled",
            claimable=False,
            unsuccessful=True,
            finished_at=DatabaseNow(),
            unique_lock=None,
            worker_id=None,
        )
        return ended

    patch.setattr(Operations, "_cancel", cancel)


def cancel_without_a_lock(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Try the one state, then the other."""

    def cancel(self: Store, job_ids: Any, among: Q, requested: Any) -> list[Ended]:
        ended = []
        for job_id in job_ids:
            ready = self._jobs.filter(id=job_id, state="ready")
            running = self._jobs.filter(id=job_id, state="running")
            ended_now = {"claimable": False, "unsuccessful": True, "finished_at": DatabaseNow()}
            if ready.update(state="cancelled", unique_lock=None, **ended_now):
                ended.append(Ended(job_id, "cancelled"))
            elif running.update(cancel_requested=True):
                requested.add(job_id)
        return ended

    patch.setattr(Operations, "_cancel", cancel)


def retry_whatever_its_state(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Make any job ready."""
    _retry(patch, token=F("token"), states=list(State))


def retry_from_the_first_token(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Begin to count tokens anew."""
    _retry(patch, token=0, states=["failed", "cancelled"])


def _retry(patch: pytest.MonkeyPatch, *, token: Any, states: list[str]) -> None:
    def retry_some(self: Store, job_ids: Any, among: Q, waits: Any) -> Any:
        rows = self._jobs.filter(id__in=job_ids, state__in=states)
        found = list(rows.values_list("id", flat=True))
        rows.update(
            state="ready",
            claimable=True,
            unsuccessful=False,
            token=token,
            attempts=0,
            crashes=0,
            run_after=DatabaseNow(),
            finished_at=None,
            worker_id=None,
        )
        return found, []

    patch.setattr(Operations, "_retry_some", retry_some)


def select_by_id(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Change what was found, whether or not it still meets the criteria."""
    found = selecting.condition

    def windows(self: Finding, wanted: Any, after: Any) -> Any:
        yield self._jobs.filter(found(wanted))

    patch.setattr(Finding, "_windows", windows)
    patch.setattr(selecting, "condition", lambda wanted: Q())


def change_what_is_running(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Move and reprioritise jobs that a worker has."""
    patch.setattr(selecting, "NOT_STARTED", tuple(State))


def delete_what_goes_on(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete jobs of any state."""
    patch.setattr(selecting, "FINISHED", tuple(State))


def retry_as_found(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Retry what was failed when it was found."""
    select_by_id(patch, store)
    patch.setattr(operations, "UNSUCCESSFUL", tuple(State))


def prune_by_id(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete what was found, whatever has become of it."""

    def prune(self: Store, *, older_than: Any, **_: Any) -> int:
        old = self._jobs.filter(finished_at__lt=in_future(-older_than))
        found = list(old.values_list("id", flat=True))
        # As many statements as before, so that the test acts between reading and writing.
        self._jobs.count()
        return self._jobs.filter(id__in=found).delete()[0]

    patch.setattr(Operations, "prune", prune)


def prune_unfinished(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete jobs of any state that someone names."""

    def finished(self: Store, states: Any, older_than: Any) -> Any:
        yield self._jobs.filter(state__in=states, enqueued_at__lt=in_future(-older_than))

    patch.setattr(operations, "FINISHED", tuple(State))
    patch.setattr(Operations, "_finished", finished)


def endings_keep_nothing(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let a released run count as an attempt."""
    plain = finishing.ending

    def ending(claim: Any, outcome: Any) -> Ending:
        return replace(plain(claim, outcome), refund=0)

    patch.setattr(finishing, "ending", ending)
    if POSTGRESQL:
        patch.setattr(postgresql(), "ending", ending)
