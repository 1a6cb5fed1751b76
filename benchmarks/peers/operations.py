"""What operators do with each queue: retry what has failed, delete what is old; many queues."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import UUID, uuid4

from benchmarks.peers.base import Enqueue, Peer, queue_names

OLD = timedelta(days=60)
LATER = timedelta(days=1)
TOGETHER = 5_000  # jobs in one INSERT


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Let the processes that are started in the block have these variables."""
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]


class Operations(ABC):
    """One queue; it can do what it overrides."""

    peer_name: ClassVar[str]
    drained: ClassVar[int]  # jobs that take some seconds, spread over the queues
    ended: ClassVar[str] = ""  # SQL: how many old jobs are there
    worker_prunes: ClassVar[bool] = False
    steady: ClassVar[int] = 100  # jobs a second that one worker starts without delay

    def __init__(self, peer: Any) -> None:
        self.peer: Any = peer

    @abstractmethod
    def fill_queues(self, each: int, *, later: bool) -> None:
        """Enqueue so many jobs that do nothing into each queue."""

    @abstractmethod
    def send_stamp_to(self, queue: str) -> Enqueue:
        """Return a call that enqueues a job there which notes its latency."""

    def fail_all(self) -> None:
        """Let all jobs that wait have failed."""
        raise NotImplementedError

    def retry_all(self) -> None:
        """Let all failed jobs run again, as the documentation says."""
        raise NotImplementedError

    def count_waiting(self) -> int:
        """Return how many jobs have not failed, and are not done."""
        return int(self.peer.left())

    def load_ended(self, number: int) -> None:
        """Put so many jobs into the table that have ended long ago."""
        raise NotImplementedError

    def prune(self) -> None:
        """Delete them."""
        raise NotImplementedError

    def environment(self, *, prunes: bool) -> dict[str, str]:
        """Return what lets a worker delete them, or not."""
        return {}

    def count_ended(self) -> int:
        """Return how many jobs that have ended are there."""
        return int(self.peer.connection.execute(self.ended).fetchone()[0])


class OfAftercommit(Operations):
    """jobs.find(), and the pruner of a worker; it begins at once instead of within a minute."""

    peer_name = "aftercommit"
    drained = 20_000
    ended = "SELECT COUNT(*) FROM aftercommit_job WHERE worker_id IS NOT NULL AND attempts = 99"

    def fill_queues(self, each: int, *, later: bool) -> None:
        """Use ``enqueue_many`` for each queue."""
        from django.utils import timezone  # noqa: PLC0415 - once Django is set up

        given = {"run_after": timezone.now() + LATER} if later else {}
        for name in queue_names():
            task = self.peer.task("noop").using(queue_name=name, **given)
            task.enqueue_many([(one,) for one in range(each)])

    def send_stamp_to(self, queue: str) -> Enqueue:
        """Enqueue the present moment."""
        task = self.peer.task("stamp").using(queue_name=queue)
        return lambda: task.enqueue(time.time_ns())

    def fail_all(self) -> None:
        """Write what a failed run writes."""
        self.peer.connection.execute(
            "UPDATE aftercommit_job SET state = 'failed', claimable = false, unsuccessful = true,"
            " attempts = 5, started_at = enqueued_at, finished_at = enqueued_at"
        )

    def retry_all(self) -> None:
        """Select them, and retry."""
        from aftercommit import jobs  # noqa: PLC0415 - once Django is set up

        jobs.find(state="failed").retry()

    def load_ended(self, number: int) -> None:
        """Insert rows with ids of that time."""
        from aftercommit.ids import first_id_of  # noqa: PLC0415 - once Django is set up
        from aftercommit.models import Job  # noqa: PLC0415

        at = datetime.now(UTC) - OLD
        first, worker_id = first_id_of(at).int, uuid4()
        moments = dict.fromkeys(
            ("run_after", "enqueued_at", "started_at", "claimed_at", "finished_at"), at
        )
        rows = (
            Job(
                id=UUID(int=first + one),
                state="succeeded",
                claimable=False,
                task_path="benchmarks.tasks.noop",
                payload='{"args":[1],"kwargs":{}}',
                worker_id=worker_id,
                attempts=99,
                **moments,
            )
            for one in range(number)
        )
        Job.objects.bulk_create(rows, batch_size=500)

    worker_prunes = True

    def prune(self) -> None:
        """Leave it to the worker."""

    def environment(self, *, prunes: bool) -> dict[str, str]:
        """Say so in the settings."""
        if prunes:
            return {"BENCH_MODULES": "benchmarks.pruning_at_once"}
        return {"BENCH_KEEP": "forever"}


class OfTasksDb(Operations):
    """Its command deletes; it has no way to retry."""

    peer_name = "django-tasks-db"
    drained = 2_000
    steady = 20
    ended = "SELECT COUNT(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"

    def fill_queues(self, each: int, *, later: bool) -> None:
        """One by one, in a transaction."""
        from django.db import transaction  # noqa: PLC0415 - once Django is set up
        from django.utils import timezone  # noqa: PLC0415

        given = {"run_after": timezone.now() + LATER} if later else {}
        with transaction.atomic():
            for name in queue_names():
                task = self.peer.task("noop").using(queue_name=name, **given)
                for one in range(each):
                    task.enqueue(one)

    def send_stamp_to(self, queue: str) -> Enqueue:
        """Enqueue the present moment."""
        task = self.peer.task("stamp").using(queue_name=queue)
        return lambda: task.enqueue(time.time_ns())

    def load_ended(self, number: int) -> None:
        """Let jobs that were enqueued have ended; those that are there stay."""
        self.peer.fill("noop", number)
        self.peer.connection.execute(
            "UPDATE django_tasks_database_dbtaskresult SET status = 'SUCCESSFUL',"
            " started_at = enqueued_at - interval '60 days',"
            " finished_at = enqueued_at - interval '60 days'"
        )

    def prune(self) -> None:
        """Call the command, which deletes them in one transaction."""
        from django.core.management import call_command  # noqa: PLC0415 - once it is set up
        from django.db import connection  # noqa: PLC0415

        call_command("prune_db_task_results", "--backend=tasks_db")
        connection.close()  # of this thread


class OfProcrastinate(Operations):
    """The methods of its JobManager."""

    peer_name = "procrastinate"
    drained = 4_000
    ended = "SELECT COUNT(*) FROM procrastinate_jobs WHERE status = 'succeeded' AND attempts = 99"

    @property
    def _app(self) -> Any:
        return self.peer._sync

    def fill_queues(self, each: int, *, later: bool) -> None:
        """Use ``batch_defer`` for each queue."""
        given = {"schedule_in": {"seconds": LATER.total_seconds()}} if later else {}
        for name in queue_names():
            job = self._app.configure_task("noop", queue=name, **given)
            job.batch_defer(*({"number": one} for one in range(each)))

    def send_stamp_to(self, queue: str) -> Enqueue:
        """Defer the present moment."""
        job = self._app.configure_task("stamp", queue=queue)
        return lambda: job.defer(sent=time.time_ns())

    def fail_all(self) -> None:
        """Write what a failed run writes."""
        self.peer.connection.execute("UPDATE procrastinate_jobs SET status = 'failed'")

    def retry_all(self) -> None:
        """One by one: there is no other way."""
        manager = self._app.job_manager
        now = datetime.now(UTC)
        for job in manager.list_jobs(status="failed"):
            manager.retry_job_by_id(job.id, retry_at=now)

    def load_ended(self, number: int) -> None:
        """Let jobs that were deferred have ended, with the events that this leaves."""
        for start in range(0, number, TOGETHER):
            self.peer.fill("noop", min(TOGETHER, number - start))
        self.peer.connection.execute(
            "UPDATE procrastinate_jobs SET status = 'succeeded', attempts = 99"
        )
        self.peer.connection.execute(
            "UPDATE procrastinate_events SET at = at - interval '60 days'"
        )

    def prune(self) -> None:
        """Send the statement of its own task for it."""
        from procrastinate import sql  # noqa: PLC0415 - if it is there

        given = {"nb_hours": 24, "queue": None, "statuses": ["succeeded"]}
        connector = self._app.connector.get_sync_connector()
        connector.execute_query(sql.queries["delete_old_jobs"], **given)


class OfPgQueuer(Operations):
    """An entrypoint for each queue; what has ended is deleted at once."""

    peer_name = "pgqueuer"
    drained = 20_000

    def fill_queues(self, each: int, *, later: bool) -> None:
        """Use ``enqueue`` with lists."""
        names = queue_names() * each
        self.peer._batch = 500
        for start in range(0, len(names), TOGETHER):
            some = names[start : start + TOGETHER]
            after = [LATER if later else None] * len(some)
            enqueue = self.peer._queries.enqueue(some, [b"1"] * len(some), [0] * len(some), after)
            self.peer._run(enqueue)

    def send_stamp_to(self, queue: str) -> Enqueue:
        """Enqueue the present moment."""
        self.peer._batch = 10
        queries = self.peer._queries
        return lambda: self.peer._run(queries.enqueue(queue, f"at {time.time_ns()}".encode()))

    def fail_all(self) -> None:
        """Write what a failed run writes that is to be kept."""
        self.peer.connection.execute("UPDATE pgqueuer SET status = 'failed'")

    def count_waiting(self) -> int:
        """Leave out the failed ones, which are kept in the same table."""
        statement = "SELECT COUNT(*) FROM pgqueuer WHERE status <> 'failed'"
        return int(self.peer.connection.execute(statement).fetchone()[0])

    def retry_all(self) -> None:
        """Queue them again, a page of failed jobs after the other."""
        queries, run = self.peer._queries, self.peer._run
        while failed := run(queries.list_failed_jobs(limit=1_000)):
            run(queries.requeue_jobs([one.id for one in failed]))


ALL: dict[str, type[Operations]] = {
    one.peer_name: one for one in (OfAftercommit, OfTasksDb, OfProcrastinate, OfPgQueuer)
}


def operations_of(peer: Peer) -> Operations:
    """Return what operators can do with a queue."""
    return ALL[peer.name](peer)
