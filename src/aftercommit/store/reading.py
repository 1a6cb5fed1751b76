"""Queries that change nothing."""

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import BooleanField, CharField, ExpressionWrapper, Q, QuerySet, Value
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Concat, Left

from aftercommit.models import Blocked, Job, State
from aftercommit.store.clock import DatabaseNow, ago, in_future
from aftercommit.store.table import Table
from aftercommit.store.workers import Workers

MOST_LOOKED_AT = 10_000  # jobs


class CrashedJob(NamedTuple):
    """A ready job that was on a dead worker."""

    job_id: UUID
    queue: str
    task_path: str
    is_due: bool


class Look(NamedTuple):
    """What one look at the other workers has shown."""

    clock: datetime  # the database's
    others: set[UUID]  # those that hold or held a session lock
    free: set[UUID]  # those among them whose session lock is free


class Reading(Table):
    """Reads jobs, queues and workers."""

    # The ids of the jobs that workers hold: of those of version 0.1, too.
    held_sql: str

    def job(self, job_id: UUID) -> Job | None:
        """Return a job as it is now, or None."""
        return self._jobs.filter(id=job_id).first()

    def jobs(self, job_ids: Collection[UUID]) -> list[Job]:
        """Return those of these jobs that exist, as they are now."""
        return list(self._jobs.filter(id__in=job_ids))

    def queued_names(self) -> set[str]:
        """Return the names of the tasks of waiting jobs, of at most ``MOST_LOOKED_AT``."""
        rows = self._jobs.filter(claimable=True).order_by()
        return set(rows.values_list("task_path", flat=True)[:MOST_LOOKED_AT])

    def was_ever_served(self) -> bool:
        """Return whether a worker is, or was, there: by its row, or by a job that it has claimed.

        It looks at the oldest ``MOST_LOOKED_AT`` jobs only, which are claimed first.
        """
        oldest = self._jobs.order_by("id").values_list("claimed_at", flat=True)
        return self.workers.any() or any(one is not None for one in oldest[:MOST_LOOKED_AT])

    def one_queued(self, task_path: str) -> Job | None:
        """Return one of the waiting jobs that ``queued_names`` looks at, with this name."""
        ids = self._jobs.filter(claimable=True).order_by().values_list("id", "task_path")
        found = (job_id for job_id, path in ids[:MOST_LOOKED_AT] if path == task_path)
        chosen = next(found, None)
        return None if chosen is None else self.job(chosen)

    def due(
        self,
        *,
        limit: int,
        name: str = "",
        backends: Collection[str] = (),
        unknown: Collection[str] = (),
        paused: Collection[str] = (),
    ) -> list[UUID]:
        """Return up to ``limit`` due jobs, the most urgent first.

        With ``name`` only those whose task's path, or whose function's path for
        ``schedule()``, begins with it. ``backends``: empty means all. Jobs of ``unknown`` tasks
        and in ``paused`` queues are left out.
        """
        return self._first_due(
            self._due(), limit=limit, name=name, backends=backends, unknown=unknown, paused=paused
        )

    def _first_due(
        self,
        rows: QuerySet[Job],
        *,
        limit: int,
        name: str = "",
        backends: Collection[str] = (),
        unknown: Collection[str] = (),
        paused: Collection[str] = (),
    ) -> list[UUID]:
        rows = rows.exclude(task_path__in=unknown).exclude(queue__in=paused)
        if backends:
            rows = rows.filter(backend__in=backends)
        if name:
            # Both conditions: LIKE of SQLite does not see the case of letters.
            function = KeyTextTransform("function", "meta")
            rows = rows.alias(task=Left("task_path", len(name)), run=Left(function, len(name)))
            rows = rows.filter(
                Q(task_path__startswith=name, task=name)
                | Q(meta__function__startswith=name, run=name)
            )
        ordered = rows.order_by("-priority", "run_after", "id")
        return list(ordered.values_list("id", flat=True)[:limit])

    def has_message(self, queue: str, message_id: str, *, backends: Collection[str] = ()) -> bool:
        """Return whether a message of the outbox has not reached its broker yet."""
        found = self._unfinished(queue, backends, ["id"], meta__message_id=message_id)
        return bool(list(found))

    def messages_in_order(
        self, queue: str, keys: Collection[str], *, limit: int, backends: Collection[str] = ()
    ) -> list[tuple[str, str, datetime]]:
        """Return up to ``limit`` of the outbox's messages with one of ``keys``, the oldest first.

        Of each the ordering key, the id in its library, and when it is due.
        """
        names = ["enqueued_at", "id", "meta__ordering_key", "meta__message_id", "run_after"]
        found = self._unfinished(queue, backends, names, meta__ordering_key__in=keys)
        oldest = sorted(found.order_by("enqueued_at", "id")[:limit])
        return [(key, message_id, due) for _at, _id, key, message_id, due in oldest]

    def neglected(
        self, queues: Collection[str], *, backend: str, priority: int, after: timedelta
    ) -> list[str]:
        """Return those of these queues in which a job has been due for longer than ``after``.

        Each queue is one step in the index, whatever it holds: its columns up to the priority
        are given.
        """
        rows = self._claimable().filter(backend=backend, priority=priority)
        long_due = rows.filter(run_after__lte=ago(after))
        return [queue for queue in queues if long_due.filter(queue=queue).exists()]

    def _unfinished(
        self, queue: str, backends: Collection[str], names: Sequence[str], **which: object
    ) -> QuerySet[Job, tuple[Any, ...]]:
        """Return those columns of a queue's ready and running jobs, of all backends if empty.

        One statement, because two would miss a job that is claimed or released between them.
        One half of the UNION walks the index of claimable jobs, the other one the leases.
        """
        if backends:  # the first column of the index
            which["backend__in"] = backends
        ready, running = (
            rows.filter(queue=queue, **which).values_list(*names)
            for rows in (self._claimable(), self._running())
        )
        return ready.union(running, all=True)

    def running_of(self, rows: QuerySet[Job]) -> QuerySet[Job]:
        """Return those of some jobs that run, found by the leases of their claims."""
        held = RawSQL(self.held_sql, [], output_field=BooleanField())  # noqa: S611 - no values
        return rows.filter(held, state=State.RUNNING)

    def _running(self) -> QuerySet[Job]:
        return self.running_of(self._jobs)

    def counts(self) -> Mapping[str, int]:
        """Return how many jobs are ready and how many are running."""
        aside = (Blocked.LIMIT, Blocked.RATE, Blocked.FAIR)
        parked = self._jobs.filter(blocked__in=aside, state=State.READY)
        return {
            State.READY: self._claimable().count() + parked.count(),
            State.RUNNING: self._running().count(),
        }

    def crashed_jobs(
        self,
        *,
        due_within: timedelta,
        queues: Collection[str] | None,
        backends: Collection[str],
        unknown: Collection[str],
        limit: int,
        but_queues: str | None = None,
    ) -> list[CrashedJob]:
        """Return ready jobs with crashes that are due, or will be soon, the most urgent first.

        ``queues``: None means all, but those that begin with ``but_queues``; ``backends``: empty
        means all. Jobs of ``unknown`` tasks are left out.
        """
        rows = self._claimable().filter(crashes__gt=0)
        rows = rows.filter(run_after__lte=in_future(due_within)).exclude(task_path__in=unknown)
        if queues is not None:
            rows = rows.filter(queue__in=queues)
        elif but_queues is not None:
            rows = rows.alias(head=Left("queue", len(but_queues))).exclude(head=but_queues)
        if backends:
            # Not the column itself: by that SQLite would walk the index of claimable jobs.
            name = Concat("backend", Value(""), output_field=CharField())
            rows = rows.alias(alias_in_tasks=name).filter(alias_in_tasks__in=backends)
        is_due = ExpressionWrapper(Q(run_after__lte=DatabaseNow()), output_field=BooleanField())
        ordered = rows.annotate(is_due=is_due).order_by("-priority", "run_after", "id")
        names = ordered.values_list("id", "queue", "task_path", "is_due")
        return [CrashedJob._make(row) for row in names[:limit]]

    def due_in(self, queue: str, *, backends: Collection[str]) -> int:
        """Return how many jobs of these backends are due in a queue."""
        return self._due().filter(backend__in=backends, queue=queue).count()

    def due_of(self, task_path: str) -> int:
        """Return how many jobs of a task are due and claimable."""
        return self._due().filter(task_path=task_path).count()

    def crashed_queues(self) -> list[str]:
        """Return the queues that have ready jobs with crashes."""
        crashed = self._claimable().filter(crashes__gt=0)
        return list(crashed.values_list("queue", flat=True).distinct())

    def look(self, worker_id: UUID) -> Look:
        """Return what a worker has to know of the others, in as few statements as possible."""
        now, others = self.clock_and_workers(worker_id)
        return Look(now, others, self.free_locks(others))

    def clock_and_workers(self, worker_id: UUID) -> tuple[datetime, set[UUID]]:
        """Return the database's clock, and the other workers that hold or held a session lock."""
        clocks = self.workers.clocks_of_locked()
        now = next(iter(clocks.values()), None) or self._clock()
        return now, clocks.keys() - {worker_id}

    @abstractmethod
    def free_locks(self, worker_ids: set[UUID]) -> set[UUID]:
        """Return the workers whose session lock is free."""

    @property
    def workers(self) -> Workers:
        """The table of worker processes in this database."""
        return Workers(self.alias)

    def _due(self) -> QuerySet[Job]:
        return self._claimable().filter(run_after__lte=DatabaseNow())
