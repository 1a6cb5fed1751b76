"""Measure queues side by side: python -m benchmarks.run [--peers a,b] [--workloads c,d]."""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from rich.console import Console
from rich.markdown import Markdown

from benchmarks.batch import batch
from benchmarks.burden import bloat, readers
from benchmarks.fair import fair
from benchmarks.limited import limited, rated
from benchmarks.limits import limits
from benchmarks.measure import WORKLOADS as OF_ALL
from benchmarks.measure import NotMeasured
from benchmarks.notify import notify
from benchmarks.operating import prune, queues, retry
from benchmarks.report import Results
from benchmarks.server import Server, database, machine
from benchmarks.written import merged

RESULTS = {
    "postgres": "RESULTS.md",
    "sqlite": "RESULTS-sqlite.md",
    "mariadb": "RESULTS-mariadb.md",
}
WORKLOADS = {
    **OF_ALL,
    "batch": batch,
    "readers": readers,
    "bloat": bloat,
    "notify": notify,
    "limited": limited,
    "limited_rows": limited,
    "rated": rated,
    "fair": fair,
    "queues": queues,
    "retry": retry,
    "prune": prune,
}
EVERYWHERE = (
    *("drain", "row", "batch", "enqueue", "idle", "limited", "limited_rows", "rated", "fair"),
    *("queues", "retry", "prune"),
)
console = Console()


def main() -> None:
    """Measure, print, write."""
    options = _options()
    with database(options.database) as server:
        os.environ |= {
            "BENCH_DATABASE": server.kind,
            "BENCH_DSN": server.dsn,
            "BENCH_SCALE": str(options.scale),
            "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        }
        results = Results()
        with _peers(server, options.peers, results) as peers:
            with suppress(KeyboardInterrupt):  # Ctrl-C: what there is so far is printed
                for number in range(options.rounds):
                    _round(number + 1, peers, server, options.workloads, results)
            # While their servers run.
            versions = [f"{peer.name} {peer.version}" for peer in peers]
        said = _said(server, options)
    listed = "\n".join(f"- {one}" for one in versions)
    console.print(Markdown(f"{said}\n\n{listed}\n\n{results.markdown()}"))
    if options.write:
        path = Path(__file__).with_name(RESULTS[options.database])
        old = path.read_text() if path.exists() else ""
        said += f" {', '.join(versions)}."
        path.write_text(merged(old, results.tables(), results.missing, said=said))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of jobs")
    parser.add_argument("--peers", type=_names, default=(), help="default: all")
    parser.add_argument("--workloads", type=_names, default=())
    parser.add_argument("--database", choices=RESULTS, default="postgres")
    parser.add_argument("--write", action="store_true", help="replace the tables in the file")
    options = parser.parse_args()
    everything = WORKLOADS if options.database == "postgres" else EVERYWHERE
    options.workloads = options.workloads or tuple(everything)
    return options


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


@contextmanager
def _peers(server: Server, wanted: tuple[str, ...], results: Results) -> Iterator[list]:
    from benchmarks.queues import PEERS  # noqa: PLC0415 - they read the environment

    _make_table(server)
    peers = []
    for kind in PEERS:
        if server.kind not in kind.databases or (wanted and kind.name not in wanted):
            continue
        try:
            peer = kind(server.dsn)
            peer.set_up()
            peers.append(peer)
        except Exception as error:  # one that is not there must not hide the others
            results.miss(kind.name, "set-up", f"{type(error).__name__}: {error}")
    try:
        yield peers
    finally:
        for peer in peers:
            peer.close()


def _make_table(server: Server) -> None:
    table = "CREATE TABLE bench_row (number bigint NOT NULL)"
    if server.kind == "postgres":
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(table)
        return
    import django  # noqa: PLC0415 - reads the environment
    from django.db import connection as djangos  # noqa: PLC0415

    django.setup()
    with djangos.cursor() as cursor:
        cursor.execute(table)


def _round(
    number: int, peers: list, server: Server, workloads: tuple[str, ...], results: Results
) -> None:
    if server.kind == "postgres":
        results.add("the database alone", limits(server.dsn))
    for workload in workloads:
        for peer in (one for one in peers if workload in one.workloads):
            console.print(f"round {number}: {workload}, {peer.name} …", end=" ")
            try:
                figures = WORKLOADS[workload](peer, server, workload)
            except Exception as error:  # one that fails must not cost the figures of others
                why = str(error) if isinstance(error, NotMeasured) else repr(error)
                results.miss(peer.name, workload, why)
                console.print(f"not measured: {why}")
                continue
            results.add(peer.name, figures)
            busy = f"load {os.getloadavg()[0]:.1f}"  # far above 2 or 3: others were at work, too
            console.print(f"{figures[0].value:,.1f} {figures[0].unit}, {busy}")


def _said(server: Server, options: argparse.Namespace) -> str:
    """Return what belongs to each figure of this run."""
    command = f"make bench ROUNDS={options.rounds} SCALE={options.scale:g}"
    if server.kind != "postgres":
        command += f" ON={server.kind}"
    today = datetime.now(UTC).date().isoformat()
    python = sys.version.split()[0]
    return (
        f"`{command} WORKLOADS={','.join(options.workloads)}`, {today}, at {_commit()}, on "
        f"{machine()}: {server.version}, Python {python}."
    )


def _commit() -> str:
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
