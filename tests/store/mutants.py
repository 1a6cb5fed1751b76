"""Our guards, each weakened in memory: what the tests of this folder must notice."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F, Q

from aftercommit.models import Job, State
from aftercommit.store import clock, operations
from aftercommit.store import finish as finishing
from aftercommit.store import rescue as rescuing
from aftercommit.store.base import Store
from aftercommit.store.clock import DatabaseNow, in_future
from aftercommit.store.columns import CLAIMED, claim_from
from aftercommit.store.finish import Ending
from aftercommit.store.insert import Inserting
from aftercommit.store.mysql import store as mysql
from aftercommit.store.operations import Operations
from aftercommit.store.rescue import Rescue, Rescued
from aftercommit.store.sqlite import store as sqlite
from aftercommit.store.table import Table
from aftercommit.values import ClaimQuery, Ended

POSTGRESQL = connection.vendor == "postgresql"
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
    no_token = [("AND job.token = held.token", ""), ("AND job.token = free.token", "")]
    no_state = [("job.state = 'running'", "true"), ("AND job.state = free.state", "")]
    fence = [*([] if token else no_token), *([] if state else no_state)]
    rewrite(patch, postgresql(), "RENEW", *fence)


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


def fence_without_state(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Ask only for the token."""
    _fence(patch, token=True, state=False)


def no_fence(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Write by id."""
    _fence(patch, token=False, state=False)


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
    module, name = (postgresql(), "CLAIM") if POSTGRESQL else (mysql, "DUE")
    rewrite(patch, module, name, ("SKIP LOCKED", ""))


def claim_is_select_then_update(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Find due jobs, then take them by their ids."""

    def claim(self: Store, query: ClaimQuery) -> Any:
        due = self.due(limit=query.limit)
        if not due:
            return []
        self._jobs.filter(id__in=due).update(
            state=State.RUNNING,
            token=F("token") + 1,
            attempts=F("attempts") + 1,
            worker_id=query.worker_id,
            lease_until=in_future(query.lease),
            claimed_at=DatabaseNow(),
            started_at=DatabaseNow(),
        )
        rows = self._jobs.filter(id__in=due).values_list(*CLAIMED)
        return [claim_from(row, worker_id=query.worker_id) for row in rows]

    patch.setattr(store, "claim", claim)


def claim_locks_the_whole_row(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim with FOR UPDATE."""
    rewrite(patch, postgresql(), "CLAIM", ("FOR NO KEY UPDATE", "FOR UPDATE"))


def claim_as_the_session_is(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Claim in the session's own isolation."""
    patch.setattr(store, "_write", lambda self: transaction.atomic(using=self.alias))


def the_clock_of_the_transaction(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Let the time stand still in a transaction."""
    rewrite(patch, postgresql(), "CLAIM", ("statement_timestamp()", "now()"))


def the_clock_of_the_session(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Take the session's time for UTC."""
    rewrite(patch, mysql, "DUE", ("UTC_TIMESTAMP(6)", "CURRENT_TIMESTAMP(6)"))


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
        rows = list(self._running().filter(lease_until__lt=DatabaseNow()))
        for row in rows:
            self._jobs.filter(id=row.id).update(
                state=State.READY, crashes=F("crashes") + 1, worker_id=None, lease_until=None
            )
        return [
            Rescued(
                job_id=row.id, worker_id=row.worker_id, task_path="", crashes=1, state="ready"
            )
            for row in rows
        ]

    patch.setattr(store, "rescue", rescue)


def rescue_without_a_second_look(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Do not ask again whether the lease is over."""
    rescue_one = Rescue._rescue_one
    patch.setattr(
        Rescue, "_rescue_one", lambda self, row, _lost, *more: rescue_one(self, row, Q(), *more)
    )


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
    """Reach rows by their state, as the optimizer does for some statistics."""
    by_state = [
        (one, text.replace("PRIMARY", "aftercommit_job_due")) for one, text in mysql.FORCED
    ]
    patch.setattr(mysql, "FORCED", by_state)


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


def a_running_holder_is_locked(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Lock whoever holds the key."""
    if POSTGRESQL:
        rewrite(patch, postgresql(), "READY_HOLDER", ("AND state = 'ready'", ""))
    else:
        patch.setattr(store, "_reads_committed", lambda self: False)


# ---- operations ---------------------------------------------------------------------


def cancel_running_as_if_ready(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """End running jobs at once."""

    def cancel(self: Store, job_ids: Any, requested: Any) -> list[Ended]:
        live = self._jobs.filter(id__in=job_ids, state__in=["ready", "running"])
        ended = [Ended(job_id, "cancelled") for job_id in live.values_list("id", flat=True)]
        live.update(
            state="cancelled",
            finished_at=DatabaseNow(),
            unique_lock=None,
            lease_until=None,
            worker_id=None,
        )
        return ended

    patch.setattr(Operations, "_cancel", cancel)


def cancel_without_a_lock(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Try the one state, then the other."""

    def cancel(self: Store, job_ids: Any, requested: Any) -> list[Ended]:
        ended = []
        for job_id in job_ids:
            ready = self._jobs.filter(id=job_id, state="ready")
            running = self._jobs.filter(id=job_id, state="running")
            if ready.update(state="cancelled", finished_at=DatabaseNow(), unique_lock=None):
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
    def retry_one(self: Store, job_id: Any) -> bool:
        rows = self._jobs.filter(id=job_id, state__in=states)
        return bool(
            rows.update(
                state="ready",
                token=token,
                attempts=0,
                crashes=0,
                run_after=DatabaseNow(),
                finished_at=None,
                lease_until=None,
                worker_id=None,
            )
        )

    patch.setattr(Operations, "_retry_one", retry_one)


def prune_by_id(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete what was found, whatever has become of it."""

    def prune(self: Store, *, older_than: Any, **_: Any) -> int:
        old = self._jobs.filter(finished_at__lt=in_future(-older_than))
        found = list(old.values_list("id", flat=True))
        # As many statements as before, so that the test acts between reading and writing.
        self._jobs.count(), self._jobs.count()
        return self._jobs.filter(id__in=found).delete()[0]

    patch.setattr(Operations, "prune", prune)


def prune_unfinished(patch: pytest.MonkeyPatch, store: type[Store]) -> None:
    """Delete jobs of any state that someone names."""

    def finished(self: Store, state: str, older_than: Any, *, limit: int) -> dict[Any, Any]:
        old = self._jobs.filter(state=state, enqueued_at__lt=in_future(-older_than))
        return dict(old.values_list("id", "finished_at"))

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
