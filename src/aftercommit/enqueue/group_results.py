"""GroupResult: what has become of the jobs of a group."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Self
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import transaction

from aftercommit._compat import TaskResultDoesNotExist, for_both
from aftercommit.enqueue.calls import Call
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.discovery import task_at
from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.group_calls import check_calls
from aftercommit.enqueue.group_numbers import GroupNumbers
from aftercommit.enqueue.results import JobResult, result_of
from aftercommit.enqueue.transactions import refuse_waiting_for_itself
from aftercommit.enqueue.waits import Waits, longest, waits_for
from aftercommit.errors import GroupDoesNotExist, GroupHasEnded, GroupNotEndedYet
from aftercommit.store import store_for

if TYPE_CHECKING:
    from aftercommit.models import Group, Job
    from aftercommit.store.base import CancelAnswer, Store

ONE_CANCEL = 500  # jobs


class GroupResult(GroupNumbers):
    """A group of jobs as it was when it was read; ``refresh()`` reads it again."""

    # ---- its jobs ---------------------------------------------------------------

    def __iter__(self) -> Iterator[JobResult]:
        """Yield the results of its jobs, in the order in which they were enqueued.

        As they are when they are read; jobs whose rows are deleted are left out.
        """
        for jobs in self._store.jobs_of_group(self._row.id):
            for job in jobs:
                yield _result(job)

    async def __aiter__(self) -> AsyncIterator[JobResult]:
        """See ``__iter__``."""
        pages = self._store.jobs_of_group(self._row.id)
        while (jobs := await sync_to_async(_next)(pages)) is not None:
            for job in jobs:
                yield await sync_to_async(_result)(job)

    @property
    def last(self) -> JobResult | None:
        """The result of the job that runs when all others have ended; None if there is none."""
        job = None if self._last_id is None else self._store.job(self._last_id)
        return None if job is None else _result(job)

    def latest_success(self) -> JobResult | None:
        """Return the result of the job that has succeeded last, the last job included."""
        job = self._store.latest_success(self._row.id)
        return None if job is None else _result(job)

    def errors(self) -> dict[str, int]:
        """Return how many jobs have had failed runs, and how many of them have not ended."""
        total, current = self._store.group_errors(self._row.id)
        return {"total_error_jobs": total, "current_errors": current}

    # ---- what can be done -------------------------------------------------------

    def refresh(self) -> None:
        """Read it again; raises ``GroupDoesNotExist`` if it was deleted."""
        row = self._store.group(self._row.id)
        if row is None:
            raise GroupDoesNotExist(group=str(self._row))
        self._take(row)

    async def arefresh(self) -> None:
        """See ``refresh``."""
        await sync_to_async(self.refresh)()

    def wait(self, timeout: timedelta) -> Self:
        """Wait until all jobs have ended, and the last one as well; refresh and return this.

        Raises ``GroupNotEndedYet`` after ``timeout``, and ``InsideTransaction`` in a transaction
        on the database of the jobs.
        """
        waits, deadline = self._waits(timeout)
        refuse_waiting_for_itself("group.wait()", using=self._using)
        self.refresh()
        while (job_id := self._one_to_wait_for()) is not None:
            waiter = waits.add(job_id)
            try:
                waiter.result(deadline.left)
            except TimeoutError:
                self.refresh()
                self._must_have_ended(timeout)
            else:
                self.refresh()
            finally:
                waits.discard(job_id, waiter)
        return self

    async def await_(self, timeout: timedelta) -> Self:
        """See ``wait``; other coroutines go on meanwhile."""
        waits, deadline = self._waits(timeout)
        await sync_to_async(refuse_waiting_for_itself)("group.await_()", using=self._using)
        await self.arefresh()
        while (job_id := await sync_to_async(self._one_to_wait_for)()) is not None:
            waiter = waits.add(job_id)
            try:
                await asyncio.wait_for(asyncio.wrap_future(waiter), deadline.left)
            except TimeoutError:
                await self.arefresh()
                self._must_have_ended(timeout)
            else:
                await self.arefresh()
            finally:
                waits.discard(job_id, waiter)
        return self

    def add(self, *calls: Call) -> list[JobResult]:
        """Add calls to the group and enqueue them, in the caller's transaction.

        From inside a job of the group (``context.group.add(...)``) that always works: the group
        has not ended before that job has. Raises ``GroupHasEnded`` if all of its jobs have
        ended, the one that waits for them has begun, or the group is cancelled.
        """
        checked, store = check_calls(calls, using=self._using), self._store
        with transaction.atomic(using=self._using):
            held = store.hold_open(self._row.id)
            done = checked.enqueue()
            let_belong(store, held, done.members)
        self.refresh()
        return done.results

    async def aadd(self, *calls: Call) -> list[JobResult]:
        """See ``add``."""
        return await sync_to_async(self.add)(*calls)

    def cancel(self) -> "CancelAnswer":
        """Cancel its jobs that wait, ask the workers of those that run to stop, and close it.

        Nobody can add jobs afterwards. What becomes of the job that waits for the others follows
        from their ends and ``on_failure``; if they have all ended, it is cancelled itself. In
        batches, each a transaction of its own, unless the caller has one.
        """
        store, group_id = self._store, self._row.id
        if not store.connection.in_atomic_block:
            # Before the lock: a job that is adding others in its transaction is asked to stop.
            store.cancel(store.live_members(group_id, limit=ONE_CANCEL, state="running"))
        store.mark_cancelled(group_id)
        answer = store.cancel_members(group_id)
        send_finished(store, answer.ended)
        self.refresh()
        return answer

    async def acancel(self) -> "CancelAnswer":
        """See ``cancel``."""
        return await sync_to_async(self.cancel)()

    # ---- inside -----------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<group {self._row} on {self._using!r}: {self.done} of {self.total} done>"

    def _one_to_wait_for(self) -> UUID | None:
        """Return a job that has not ended; None if there is none.

        Any of them: after each that has ended, about half of the others have ended as well.
        """
        if self._last_is_live and not self._counts.left:
            return self._last_id
        number = random.randrange(self._counts.left) if self._counts.left else 0  # noqa: S311
        found = self._store.live_member(self._row.id, number=number)
        if found is None and self._counts.left:  # the last has ended meanwhile
            self.refresh()
            return self._last_id if self._last_is_live else None
        return found

    def _waits(self, timeout: timedelta) -> "tuple[Waits, Deadline]":
        deadline = Deadline(longest(timeout))
        here = [one.config for one in our_backends() if one.using == self._using]
        listens = all(config.session_locks for config in here)
        return waits_for(self._using, listens=listens), deadline

    def _must_have_ended(self, timeout: timedelta) -> None:
        if not self.is_finished:
            raise GroupNotEndedYet(group=str(self._row), left=self.left, timeout=timeout)


class Deadline:
    """The end of a wait, by the clock of this process."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds until then."""
        return max(self._end - time.monotonic(), 0.0)


def let_belong(store: "Store", held: "Group", job_ids: list[UUID]) -> None:
    """Add jobs that were just enqueued to a group that is held open.

    Raises ``GroupHasEnded`` if the last job of the group has begun.
    """
    store.add_members(held.id, job_ids)
    last_id = held.final_id
    if last_id is not None and job_ids and not store.let_wait(last_id, job_ids):
        raise GroupHasEnded(group=str(held), why="the job that waits for it has begun")


def group_of(job_id: UUID, *, using: str) -> GroupResult | None:
    """Return the group of a job; None if it has none."""
    row = store_for(using).group_of(job_id)
    return None if row is None else GroupResult(row, using=using)


def _next(pages: "Iterator[list[Job]]") -> "list[Job] | None":
    return next(pages, None)


def _result(job: "Job") -> JobResult:
    task = task_at(job.task_path)
    if task is None:
        raise for_both(TaskResultDoesNotExist(str(job.id)))
    return result_of(job, task)
