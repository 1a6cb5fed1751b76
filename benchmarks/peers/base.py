"""What each queue has to know of itself."""

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import psycopg

Enqueue = Callable[[], object]


class Peer(ABC):
    """One queue, with the settings that its documentation recommends for speed."""

    name: ClassVar[str]
    jobs: ClassVar[dict[str, int]] = {}  # per workload: so many take some seconds
    workloads: ClassVar[tuple[str, ...]] = (
        "drain",
        "drain2",
        "row",
        "enqueue",
        "idle",
        "held",
        "readers",
        "bloat",
    )
    unfinished: ClassVar[str] = ""  # SQL: how many jobs are not done yet
    tables: tuple[str, ...]  # emptied before each measurement; readers scan the first
    owns: ClassVar[str] = ""  # a pattern for all its tables, each as "schema.name"
    databases: ClassVar[tuple[str, ...]] = ("postgres",)

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self.connection: Any = self.connect()

    def connect(self) -> Any:
        """Return what has ``execute`` and ``close``, as psycopg's connections."""
        return psycopg.connect(self.dsn, autocommit=True)

    @property
    @abstractmethod
    def version(self) -> str:
        """Which release is measured."""

    @abstractmethod
    def set_up(self) -> None:
        """Make the tables."""

    @abstractmethod
    def fill(self, kind: str, number: int) -> None:
        """Enqueue so many jobs of a kind (``noop``, ``row``) as fast as it can."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command of one worker process."""

    def enqueue_one(self) -> Enqueue | None:
        """Return a call that enqueues one job, committed when it returns."""
        return None

    def in_transaction(self, number: int) -> float | None:
        """Enqueue one job after the other in one transaction; return the seconds."""
        return None

    def send_stamp(self) -> Enqueue | None:
        """Return a call that enqueues a job which notes its latency."""
        return None

    # Kinds of jobs under a limit that ``fill`` can make, and which limit that is.
    limits: ClassVar[dict[str, str]] = {}
    rates: ClassVar[dict[str, str]] = {}  # the same of rates
    turns: ClassVar[dict[str, str]] = {}
    ballasts: ClassVar[tuple[str, ...]] = ()  # kinds of rows that ``load`` can make

    def load(self, ballast: str, number: int) -> None:
        """Put so many rows into the table that are not to be done now."""
        raise NotImplementedError

    def due(self) -> int:
        """Return how many of the jobs that are to be done now have not begun."""
        raise NotImplementedError

    def empty(self) -> None:
        """Remove what the last measurement has left, and let the planner know."""
        self.connection.execute(f"TRUNCATE {', '.join(self.tables)}, bench_row")

    def left(self) -> int:
        """Return how many jobs are not done."""
        return int(self.connection.execute(self.unfinished).fetchone()[0])

    def finished(self) -> bool:
        """Return whether all jobs are done."""
        return self.left() == 0

    def analyze(self) -> None:
        """Do what autovacuum would have done by now."""
        for table in self.tables:
            self.connection.execute(f"VACUUM ANALYZE {table}")

    def close(self) -> None:
        """End."""
        self.connection.close()


def timed(call: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def queue_names() -> list[str]:
    """Return the names of the queues that are measured; none: only the usual one."""
    return [f"q{number}" for number in range(int(os.environ.get("BENCH_QUEUES", "0")))]
