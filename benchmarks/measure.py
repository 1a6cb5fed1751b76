"""How fast one queue is at one thing."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import psycopg

from benchmarks.peers.base import Peer
from benchmarks.server import Server, cpu_of_tree

ROOT = Path(__file__).resolve().parents[1]
ONE_COMMIT_EACH, IN_ONE_TRANSACTION = 1_000, 1_000  # jobs
STAMPS = 200  # jobs
BETWEEN_STAMPS = 0.02  # seconds
STARTED = 30.0  # seconds
PATIENCE = 300.0  # seconds, for one measurement
BALLAST = 1_000_000  # rows
ROWS = {"row", "batch_row", "batch_atomic"}  # kinds of jobs that write one row each
PROCESSES = {"drain2": 2, "drain4": 4}
FILL = 100_000  # jobs at a time
REPORTED = 1.5  # seconds: a session that ends tells the server's statistics what it did
DEAD_ROWS = """
SELECT COALESCE(SUM(n_dead_tup), 0)::bigint FROM pg_stat_user_tables
WHERE schemaname || '.' || relname ~ %s
"""


class NotMeasured(Exception):
    """Why there is no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of one measurement."""

    what: str  # the row of the table
    value: float
    unit: str
    better: str = "more"  # or "less"


def drain(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Let workers do all jobs; measure from the first tenth to the last job."""
    kind = "row" if workload == "row" else "noop"
    number = filled(peer, workload, kind)
    with _onlooker(peer.dsn) if workload == "held" else nullcontext():
        figures = drained(peer, server, workload, kind=kind, number=number)
    if workload == "drain" and server.pid and peer.owns:
        figures.append(dead_rows(peer, workload, number))
    return figures


def filled(peer: Peer, workload: str, kind: str = "noop") -> int:
    """Leave nothing but so many fresh jobs in the queue; return how many."""
    number = _number(peer, workload if workload in peer.jobs else "drain")
    peer.empty()
    peer.fill(kind, number)
    peer.analyze()
    return number


def dead_rows(peer: Peer, workload: str, number: int) -> Figure:
    """Return what the workers, who have ended, have left in all tables of the queue."""
    time.sleep(REPORTED)
    found = peer.connection.execute(DEAD_ROWS, [peer.owns]).fetchone()[0]
    what = f"{workload}: dead rows left"
    return Figure(what=what, value=100 * found / number, unit="% of the jobs", better="less")


@contextmanager
def _onlooker(dsn: str) -> Iterator[None]:
    """Hold a transaction open that may still see every row as it is now."""
    with psycopg.connect(dsn) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.execute("SELECT COUNT(*) FROM bench_row")
        yield


def drained(
    peer: Peer,
    server: Server,
    workload: str,
    *,
    kind: str = "noop",
    number: int,
    processes: int = 1,
) -> list[Figure]:
    """Let workers do what is there: jobs a second first, then what they cost."""
    with working(peer, PROCESSES.get(workload, processes)) as pids:
        wait(lambda: peer.left() <= 0.9 * number, every=0.05)
        began, left = time.perf_counter(), peer.left()
        if not left:
            raise NotMeasured(f"{number} jobs are too few: all were done at the first look")
        before = [sum(map(cpu_of_tree, pids)), server.cpu()]
        log_before = _log_position(peer, server)
        wait(lambda: peer.left() < 0.1 * number, every=0.2)
        wait(peer.finished, every=0.02)
        seconds = time.perf_counter() - began
        after = [sum(map(cpu_of_tree, pids)), server.cpu()]
        log = (_log_position(peer, server) - log_before) / left
    if kind in ROWS:
        _check_rows(peer, number)
    worker, database = ((b - a) / left * 1e6 for a, b in zip(before, after, strict=True))
    figures = [
        Figure(what=workload, value=left / seconds, unit="jobs/s"),
        Figure(what=f"{workload}: CPU of the worker", value=worker, unit="µs/job", better="less"),
    ]
    if server.pid is None or not log:  # another server has done the work
        return figures
    return [
        *figures,
        Figure(
            what=f"{workload}: CPU of PostgreSQL", value=database, unit="µs/job", better="less"
        ),
        Figure(what=f"{workload}: log written", value=log, unit="bytes/job", better="less"),
    ]


def flat(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Drain and enqueue with a million other rows in the table, of each kind."""
    figures = []
    rows = int(BALLAST * scale())
    for ballast in ("nothing", *peer.ballasts):
        peer.empty()
        if ballast != "nothing":
            peer.load(ballast, rows)
        peer.fill("noop", number := _number(peer, "flat"))
        peer.analyze()
        with working(peer, 1):
            wait(lambda: peer.due() <= 0.9 * number, every=0.02)
            began, due = time.perf_counter(), peer.due()
            wait(lambda: peer.due() == 0, every=0.02)
            rate = due / (time.perf_counter() - began)
        seconds = peer.in_transaction(IN_ONE_TRANSACTION) or 0
        beside = f"with {ballast}" if ballast == "nothing" else f"with {rows:,} {ballast}"
        figures += [
            Figure(what=f"drain {beside}", value=rate, unit="jobs/s"),
            Figure(what=f"enqueue {beside}", value=IN_ONE_TRANSACTION / seconds, unit="jobs/s"),
        ]
    return figures


def memory(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Let one process do a million jobs; how much it holds that an idle project does not."""
    peer.empty()
    idle = peer.idle_memory()
    total = _number(peer, workload)
    figures = []
    with working(peer, 1) as (pid,):
        for number in range(0, total, FILL):
            peer.fill("noop", min(FILL, total - number))
            wait(peer.finished, every=0.1)
            if not figures:
                figures = [_memory(f"{FILL:,}", pid, idle)]
        return [*figures, _memory(f"{total:,}", pid, idle)]


def _memory(jobs: str, pid: int, idle: int) -> Figure:
    worker = max(one.memory_info().rss for one in psutil.Process(pid).children(recursive=True))
    what = f"memory after {jobs} jobs, above the same project idle"
    return Figure(what=what, value=(worker - idle) / 2**20, unit="MiB", better="less")


def enqueue(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Enqueue from one process, in each way that there is."""
    peer.empty()
    figures = []
    if one := peer.enqueue_one():
        began = time.perf_counter()
        for _one in range(ONE_COMMIT_EACH):
            one()
        rate = ONE_COMMIT_EACH / (time.perf_counter() - began)
        figures.append(Figure(what="enqueue, own commit", value=rate, unit="jobs/s"))
    if seconds := peer.in_transaction(IN_ONE_TRANSACTION):
        rate = IN_ONE_TRANSACTION / seconds
        figures.append(Figure(what="enqueue, in a transaction", value=rate, unit="jobs/s"))
    number = min(_number(peer, "drain"), 50_000)
    began = time.perf_counter()
    peer.fill("noop", number)
    rate = number / (time.perf_counter() - began)
    figures.append(Figure(what="enqueue, bulk", value=rate, unit="jobs/s"))
    return figures


def idle(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Send jobs one at a time to an idle worker; from the call to the task's first line."""
    send = peer.send_stamp()
    if send is None:
        raise NotMeasured("no such task")
    peer.empty()
    with working(peer, 1):
        send()
        wait(lambda: stamps(peer) == 1, every=0.05, patience=STARTED)
        for number in range(STAMPS):
            time.sleep(BETWEEN_STAMPS)
            send()
            wait(lambda: stamps(peer) == number + 2, every=0.005)  # noqa: B023
    rows = peer.connection.execute("SELECT number FROM bench_row ORDER BY number").fetchall()
    spans = [row[0] / 1e6 for row in rows]
    return [
        Figure(what="idle, p50", value=median(spans), unit="ms", better="less"),
        Figure(what="idle, p99", value=spans[int(len(spans) * 0.99)], unit="ms", better="less"),
    ]


WORKLOADS: dict[str, Callable[[Peer, Server, str], list[Figure]]] = {
    "drain": drain,
    "drain2": drain,
    "drain4": drain,
    "row": drain,
    "enqueue": enqueue,
    "idle": idle,
    "held": drain,
    "flat": flat,
    "memory": memory,
}


@contextmanager
def working(peer: Peer, processes: int) -> Iterator[list[int]]:
    """Run worker processes for as long as the block lasts."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path}
    started = [
        subprocess.Popen(
            peer.command(),
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        for _number in range(processes)
    ]
    try:
        yield [one.pid for one in started]
    finally:
        for one in started:
            _end(one)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _number(peer: Peer, workload: str) -> int:
    return max(int(peer.jobs[workload] * scale()), 100)


def scale() -> float:
    """Return the factor of the numbers of jobs."""
    return float(os.environ.get("BENCH_SCALE", "1"))


def wait(condition: Callable[[], bool], *, every: float, patience: float = PATIENCE) -> None:
    """Look again and again, but never for more than a fifth of the time: looks cost."""
    ends = time.perf_counter() + patience
    while not (look := _look(condition))[0]:
        if time.perf_counter() > ends:
            raise NotMeasured(f"not done within {patience:g} s")
        time.sleep(max(every, 4 * look[1]))


def _look(condition: Callable[[], bool]) -> tuple[bool, float]:
    began = time.perf_counter()
    return condition(), time.perf_counter() - began


def stamps(peer: Peer) -> int:
    """Return how many jobs have noted when they began."""
    return int(peer.connection.execute("SELECT COUNT(*) FROM bench_row").fetchone()[0])


def _log_position(peer: Peer, server: Server) -> int:
    if server.pid is None:
        return 0
    return int(peer.connection.execute("SELECT pg_current_wal_lsn() - '0/0'").fetchone()[0])


def _check_rows(peer: Peer, number: int) -> None:
    wait(lambda: stamps(peer) >= number, every=0.05, patience=STARTED)  # the last is at work
    rows = peer.connection.execute(
        "SELECT COUNT(*), COUNT(DISTINCT number) FROM bench_row"
    ).fetchone()
    if rows != (number, number):
        raise NotMeasured(f"{number} jobs have left {rows} rows")
