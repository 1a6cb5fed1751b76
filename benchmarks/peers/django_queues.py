"""aftercommit, django-tasks-db and dj-queue: all behind ``django.tasks``."""

import subprocess
import sys
import time
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import django
from django.core.management import call_command
from django.core.management.color import no_style
from django.db import connection, transaction

from benchmarks.peers.base import Enqueue, Peer, queue_names, timed

BALLAST = {
    "finished rows": {"state": "succeeded", "after": "0", "finished": "now()", "priority": 0},
    "rows for later": {"state": "ready", "after": "1 day", "finished": "NULL", "priority": 0},
    "ready rows behind": {"state": "ready", "after": "0", "finished": "NULL", "priority": -50},
}
LOAD = """
INSERT INTO aftercommit_job (
    id, state, queue, priority, run_after, backend, task_path, payload, meta, token, attempts,
    crashes, conflicts, max_attempts, cancel_requested, unique_until_started, enqueued_at,
    finished_at, errors, claimable
)
SELECT gen_random_uuid(), '{state}', 'default', {priority}, now() + interval '{after}',
    'default', 'benchmarks.tasks.noop', '{{"args":[1],"kwargs":{{}}}}', '{{}}', 0, 0, 0, 0, 5,
    false, false, now(), {finished}, '[]', '{state}' = 'ready'
FROM generate_series(1, %(number)s)
"""
# The newest rows are done last, and the primary key finds them without a look at the others.
NEWEST_LEFT = """
SELECT COUNT(*) FROM (SELECT state FROM aftercommit_job ORDER BY id DESC LIMIT 1000) AS newest
WHERE state IN ('ready', 'running')
"""
DUE = """
SELECT COUNT(*) FROM aftercommit_job
WHERE claimable AND backend = 'default' AND queue = 'default' AND priority = 0
  AND run_after <= now()
"""

KEYS = 1_000
# Which key a job has, by its number, and the kind of its task.
ARGUMENTS = {
    "keyed": (lambda number: number % KEYS, "keyed"),
    "keyed_in_a_row": (lambda number: number // 10 % KEYS, "keyed"),
    "keyed_one": (lambda number: number % KEYS, "keyed_one"),
    "row_keyed": (lambda number: number % KEYS, "row_keyed"),
    "rated_keyed": (lambda number: number % KEYS, "rated_keyed"),
    "fair_two": (lambda number: int(number % 10 == 0), "fair"),
    "fair_many": (lambda number: number % KEYS, "fair"),
}
IDLE = """
import django, psutil
django.setup()
from django.db import connection
connection.ensure_connection()
print(psutil.Process().memory_info().rss)
"""
ROOT = Path(__file__).resolve().parents[2]


class DjangosConnection:
    """Django's connection, as if it were one of psycopg."""

    def execute(self, sql: str, params: Any = None) -> Any:
        """Return the cursor of a statement."""
        cursor = connection.cursor()
        cursor.execute(sql, params)
        return cursor

    def close(self) -> None:
        """End."""
        connection.close()


class DjangoQueue(Peer):
    """A backend of ``django.tasks``."""

    suffix: ClassVar[str] = ""
    package: ClassVar[str]
    databases = ("postgres", "sqlite", "mariadb")

    @property
    def version(self) -> str:
        """Which release is measured."""
        return f"{metadata.version(self.package)}, Django {django.__version__}"

    def connect(self) -> Any:
        """Use Django's, which knows every database."""
        django.setup()
        return DjangosConnection()

    def set_up(self) -> None:
        """Migrate."""
        call_command("migrate", verbosity=0)

    def empty(self) -> None:
        """Do it as each database does it best."""
        tables = [*self.tables, "bench_row"]
        flush = connection.ops.sql_flush(no_style(), tables, allow_cascade=False)
        connection.ops.execute_sql_flush(flush)

    def analyze(self) -> None:
        """Do it as each database says it."""
        word = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE", "sqlite": "ANALYZE"}
        for table in self.tables:
            self.connection.execute(f"{word[connection.vendor]} {table}").close()

    def task(self, kind: str) -> Any:
        """Return the task of a kind."""
        from benchmarks import tasks  # noqa: PLC0415 - once Django is set up

        return getattr(tasks, kind + self.suffix)

    def fill(self, kind: str, number: int) -> None:
        """One by one, in one transaction: there is no other way."""
        task = self.task(kind)
        with transaction.atomic():
            for one in range(number):
                task.enqueue(one)

    def enqueue_one(self) -> Enqueue:
        """Enqueue in autocommit."""
        return partial(self.task("noop").enqueue, 1)

    def in_transaction(self, number: int) -> float:
        """Enqueue in ``atomic()``."""
        task = self.task("noop")

        def all_of_them() -> None:
            with transaction.atomic():
                for one in range(number):
                    task.enqueue(one)

        return timed(all_of_them)

    def send_stamp(self) -> Enqueue:
        """Enqueue the present moment."""
        task = self.task("stamp")
        return lambda: task.enqueue(time.time_ns())


class Aftercommit(DjangoQueue):
    """This project, with its default settings."""

    name = "aftercommit"
    package = "aftercommit"
    jobs: ClassVar = {
        "drain": 150_000,
        "drain2": 150_000,
        "drain4": 150_000,
        "row": 15_000,
        "batch": 200_000,
        "held": 400_000,
        "readers": 400_000,
        "bloat": 400_000,
        "flat": 100_000,
        "memory": 1_000_000,
        "limited": 60_000,
        "limited_rows": 20_000,
        "rated": 60_000,
        "fair": 60_000,
    }
    workloads = (
        *DjangoQueue.workloads,
        *("drain4", "flat", "memory", "notify", "limited", "limited_rows", "rated", "fair"),
        *("batch", "queues", "retry", "prune"),
    )
    limits: ClassVar = {
        "limited": "1,000 at once",
        "keyed": "3 of each key, keys in turn",
        "keyed_in_a_row": "3 of each key, 10 of a key in a row",
        "keyed_one": "1 of each key, keys in turn",
        "row_limited": "1,000 at once",
        "row_keyed": "3 of each key, keys in turn",
    }
    rates: ClassVar = {
        "rated": "of the task, binds nobody",
        "rated_keyed": "of each of 1,000 keys, binds nobody",
    }
    turns: ClassVar = {
        "fair_two": "two tenants, one has nine of ten jobs",
        "fair_many": "1,000 tenants",
    }
    ballasts: ClassVar = tuple(BALLAST)
    tables = ("aftercommit_job", "aftercommit_lease")
    owns = r"^public\.aftercommit_"
    unfinished = "SELECT COUNT(*) FROM aftercommit_job WHERE state IN ('ready', 'running')"

    def set_up(self) -> None:
        """Migrate; older versions have fewer tables."""
        super().set_up()
        found = connection.introspection.table_names()
        self.tables = tuple(table for table in self.tables if table in found)

    def finished(self) -> bool:
        """Count all only when the newest are done: that may read the whole table."""
        newest = self.connection.execute(NEWEST_LEFT).fetchone()[0]
        return newest == 0 and super().finished()

    def fill(self, kind: str, number: int) -> None:
        """Use ``enqueue_many``, 5,000 at a time."""
        argument, kind = ARGUMENTS.get(kind, (int, kind))
        for start in range(0, number, 5_000):
            calls = [(argument(one),) for one in range(start, min(start + 5_000, number))]
            self.task(kind).enqueue_many(calls)

    def load(self, ballast: str, number: int) -> None:
        """Insert them with SQL."""
        columns = BALLAST[ballast]
        self.connection.execute(LOAD.format(**columns), {"number": number})

    def idle_memory(self) -> int:
        """Ask a process that has set the project up and connected, and does nothing."""
        answer = subprocess.check_output([sys.executable, "-c", IDLE], cwd=ROOT)
        return int(answer)

    def due(self) -> int:
        """Ask the index that the claims use."""
        return int(self.connection.execute(DUE).fetchone()[0])

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        queues = ("--queues", "q*") if queue_names() else ()
        worker = (sys.executable, "-m", "django", "aftercommit", "worker")
        return [*worker, "--backend", "default", *queues]


class AftercommitAtomic(Aftercommit):
    """The same with ``atomic=True``: effect and completion in one commit."""

    name = "aftercommit-atomic"
    workloads = ("row",)
    jobs: ClassVar = {"row": 15_000}

    def task(self, kind: str) -> Any:
        """Return the atomic task."""
        return super().task(f"atomic_{kind}")


class AftercommitAlone(Aftercommit):
    """The same with ``fuse`` off: a commit for each task."""

    name = "aftercommit-atomic-alone"
    workloads = ("row",)
    jobs: ClassVar = {"row": 15_000}

    def task(self, kind: str) -> Any:
        """Return the atomic task of the backend that shares no transactions."""
        return super().task(f"alone_{kind}")

    def command(self) -> list[str]:
        """Serve that backend."""
        return [sys.executable, "-m", "django", "aftercommit", "worker", "--backend", "alone"]


class TasksDb(DjangoQueue):
    """django-tasks-db."""

    name = "django-tasks-db"
    package = "django-tasks-db"
    suffix = "_db"
    jobs: ClassVar = {"drain": 2_000, "drain2": 3_000, "row": 1_500}
    workloads = (*DjangoQueue.workloads, "queues", "prune")
    tables = ("django_tasks_database_dbtaskresult",)
    owns = r"^public\.django_tasks_database_"
    unfinished = (
        "SELECT COUNT(*) FROM django_tasks_database_dbtaskresult"
        " WHERE status IN ('READY', 'RUNNING')"
    )

    def command(self) -> list[str]:
        """Return the command of one worker process."""
        options = ("--backend", "tasks_db", "--interval", "0.05", "--no-startup-delay")
        options += ("--queue-name", ",".join(queue_names() or ["default"]))
        return [sys.executable, "-m", "django", "db_worker", *options]


class DjQueue(DjangoQueue):
    """dj-queue, with its default settings."""

    name = "dj-queue"
    package = "dj-queue"
    suffix = "_db"
    jobs: ClassVar = {"drain": 2_000, "drain2": 3_000, "row": 1_500}
    tables = tuple(
        f"dj_queue_{name}"
        for name in (
            "jobs",
            "ready_executions",
            "claimed_executions",
            "scheduled_executions",
            "blocked_executions",
            "failed_executions",
            "recurring_executions",
        )
    )
    owns = r"^public\.dj_queue_"
    unfinished = "SELECT COUNT(*) FROM dj_queue_jobs WHERE finished_at IS NULL"

    def task(self, kind: str) -> Any:
        """Return Django's task on this backend."""
        return super().task(kind).using(backend="dj_queue")

    def fill(self, kind: str, number: int) -> None:
        """Use ``enqueue_all``, 5,000 at a time."""
        task = self.task(kind)
        for start in range(0, number, 5_000):
            calls = [(task, [one], {}) for one in range(start, min(start + 5_000, number))]
            task.get_backend().enqueue_all(calls)

    def command(self) -> list[str]:
        """Return the command of one worker process, with all that it needs."""
        return [sys.executable, "-m", "django", "dj_queue", "--backend", "dj_queue"]
