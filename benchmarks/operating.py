"""What operating costs: many queues, the retry of what has failed, pruning beside load."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from threading import Thread

from benchmarks.measure import STARTED, Figure, NotMeasured, scale, stamps, wait, working
from benchmarks.peers.base import Peer, timed
from benchmarks.peers.operations import Operations, environment, operations_of
from benchmarks.server import Server, cpu_of_tree

QUEUES, LATER_EACH = 1_000, 5  # all are empty but for so many jobs for tomorrow
STAMPS, BETWEEN_STAMPS = 200, 0.02  # jobs, seconds
# The server counts what a session that rests has done at most ten seconds later.
SETTLED, IDLE_FOR = 11.0, 10.0  # seconds
FAILED = 5_000  # jobs
ENDED = 60_000  # jobs
STEADY_FOR = 10.0  # seconds
TRANSACTIONS = """
SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()
"""


# ---- 1,000 queues -----------------------------------------------------------------------


def queues(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Idle, start and drain, where one worker serves a thousand queues."""
    operations = operations_of(peer)
    with environment(BENCH_QUEUES=str(QUEUES)):
        peer.empty()
        operations.fill_queues(LATER_EACH, later=True)
        peer.analyze()
        with working(peer, 1) as pids:
            figures = _started(operations)
            if server.pid is not None:
                figures += _idle(peer, server, pids)
        peer.empty()
        each = max(int(operations.drained * scale() / QUEUES), 1)
        operations.fill_queues(each, later=False)
        peer.analyze()
        with working(peer, 1):
            wait(lambda: peer.left() <= 0.9 * each * QUEUES, every=0.05)
            rate = _drained(peer)
    return [*figures, _figure("1,000 queues: drain", rate, "jobs/s", better="more")]


def _started(operations: Operations) -> list[Figure]:
    """Send jobs one at a time, each to another queue; from the call to the first line."""
    peer, chance = operations.peer, Random(1)
    for number in range(STAMPS + 1):
        send = operations.send_stamp_to(f"q{chance.randrange(QUEUES)}")
        time.sleep(BETWEEN_STAMPS)
        send()
        wait(lambda: stamps(peer) > number, every=0.005, patience=STARTED)  # noqa: B023
    spans = _spans(peer)[:-1]  # without the start of the worker
    return [
        _figure("1,000 queues: start, p50", _share(spans, 50), "ms"),
        _figure("1,000 queues: start, p99", _share(spans, 99), "ms"),
    ]


def _idle(peer: Peer, server: Server, pids: list[int]) -> list[Figure]:
    """Let the worker look for jobs where none are due."""

    def used() -> tuple[float, float]:
        return peer.connection.execute(TRANSACTIONS).fetchone()[0], sum(
            map(cpu_of_tree, pids)
        ) + server.cpu()

    time.sleep(SETTLED)
    before = used()
    time.sleep(IDLE_FOR)
    transactions, cpu = (b - a for a, b in zip(before, used(), strict=True))
    return [
        _figure("1,000 queues: transactions of an idle worker", transactions / IDLE_FOR, "1/s"),
        _figure("1,000 queues: CPU of an idle worker and server", 1e3 * cpu / IDLE_FOR, "ms/s"),
    ]


# ---- retry ------------------------------------------------------------------------------


def retry(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Let thousands of failed jobs run again."""
    operations = operations_of(peer)
    peer.empty()
    peer.fill("noop", FAILED)
    operations.fail_all()
    peer.analyze()
    if operations.count_waiting():
        raise NotMeasured("not all have failed")
    seconds = timed(operations.retry_all)
    if (retried := operations.count_waiting()) != FAILED:
        raise NotMeasured(f"{retried} of {FAILED} jobs were retried")
    return [_figure("retry of 5,000 failed jobs", seconds, "s")]


# ---- pruning ----------------------------------------------------------------------------


def prune(peer: Peer, server: Server, workload: str) -> list[Figure]:
    """Delete old jobs beside a steady load and beside a drain, and compare with neither."""
    operations = operations_of(peer)
    spans = {prunes: _steady(operations, prunes=prunes) for prunes in (False, True)}
    rates, pruned = {}, 0.0
    for prunes in (False, True):
        rates[prunes], pruned = _drained_beside(operations, prunes=prunes)
    return [
        *(
            _figure(f"prune: start of a job, {name}, {_said(prunes)}", value, "ms")
            for name, percent in (("p50", 50), ("p95", 95), ("longest", 100))
            for prunes, found in spans.items()
            for value in [_share(found, percent)]
        ),
        _figure("prune: old jobs deleted beside a drain", pruned, "jobs/s", better="more"),
        *(
            _figure(f"prune: drain {_said(prunes)}", rate, "jobs/s", better="more")
            for prunes, rate in rates.items()
        ),
    ]


def _said(prunes: bool) -> str:
    return "beside it" if prunes else "without it"


def _steady(operations: Operations, *, prunes: bool) -> list[float]:
    """Enqueue at a steady rate; return the spans from the call to the first line, in order."""
    peer = operations.peer
    peer.empty()
    operations.load_ended(ENDED)
    peer.analyze()
    send = peer.send_stamp()
    with environment(**operations.environment(prunes=prunes)), working(peer, 1):
        send()
        wait(lambda: stamps(peer) == 1, every=0.05, patience=STARTED)
        with _pruning(operations, prunes=prunes):
            began = time.perf_counter()
            for number in range(int(operations.steady * STEADY_FOR)):
                due = began + number / operations.steady
                time.sleep(max(due - time.perf_counter(), 0))
                send()
            wait(lambda: stamps(peer) == number + 2, every=0.05)
    return _spans(peer)[:-1]  # without the start of the worker


def _drained_beside(operations: Operations, *, prunes: bool) -> tuple[float, float]:
    """Drain; return the jobs a second that were done, and that were deleted."""
    peer = operations.peer
    peer.empty()
    operations.load_ended(ENDED)
    peer.fill("noop", number := max(int(peer.jobs["drain"] * scale()), 100))
    peer.analyze()
    with environment(**operations.environment(prunes=prunes)), working(peer, 1):
        wait(lambda: peer.left() <= 0.9 * number, every=0.05)
        with _pruning(operations, prunes=prunes) as deleted:
            rate = _drained(peer)
    return rate, sum(deleted)


@contextmanager
def _pruning(operations: Operations, *, prunes: bool) -> Iterator[list[float]]:
    """Delete old jobs in the block, if the worker does not; yield the rate, once it is over."""
    found: list[float] = []
    if not prunes:
        yield found
        return
    before, began, ended = operations.count_ended(), time.perf_counter(), []

    def call() -> None:
        operations.prune()
        ended.append(time.perf_counter())

    thread = Thread(target=call)
    thread.start()
    yield found
    thread.join()
    seconds = (time.perf_counter() if operations.worker_prunes else ended[0]) - began
    found.append((before - operations.count_ended()) / seconds)


# ---- what they share --------------------------------------------------------------------


def _drained(peer: Peer) -> float:
    """Wait until all jobs are done; return the rate from now on."""
    left, began = peer.left(), time.perf_counter()
    wait(peer.finished, every=0.02)
    return left / (time.perf_counter() - began)


def _spans(peer: Peer) -> list[float]:
    """Return what jobs have noted, in ms, in the order of length."""
    rows = peer.connection.execute("SELECT number FROM bench_row ORDER BY number").fetchall()
    return [row[0] / 1e6 for row in rows]


def _share(spans: list[float], percent: int) -> float:
    return spans[min(int(len(spans) * percent / 100), len(spans) - 1)]


def _figure(what: str, value: float, unit: str, *, better: str = "less") -> Figure:
    return Figure(what=what, value=value, unit=unit, better=better)
