"""Measure this tree beside another commit: python -m benchmarks.compare REV [--database sqlite].

Both are measured in turns, each by its own benchmarks, in processes and on a database of its
own; so a machine that becomes slow is slow for both. A ratio above 1 is good news.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.run import RESULTS
from benchmarks.server import machine

ROOT = Path(__file__).resolve().parents[1]
# Runs in either tree: it may use only what the oldest commit has that is of interest.
MEASURE = """
import json, os, sys, time
kind, scale, *workloads = sys.argv[1:]
from benchmarks import run
from benchmarks.server import database
with database(kind) as server:
    os.environ |= {
        "BENCH_DATABASE": kind, "BENCH_DSN": server.dsn, "BENCH_SCALE": scale,
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
    }
    found = []
    with run._peers(server, ("aftercommit",), run.Results()) as (peer,):
        for workload in workloads:
            began = time.process_time()
            figures = run.WORKLOADS[workload](peer, server, workload)
            found += [[one.what, one.value, one.better] for one in figures]
            cpu = 1000 * (time.process_time() - began)  # says more than time on a busy machine
            found.append([f"{workload}: CPU of who enqueues, ms", cpu, "less"])
print(json.dumps([[*one, server.version] for one in found]))
"""
Rounds = dict[str, list[float]]


def main() -> None:
    """Measure, print."""
    options = _options()
    found: dict[str, Rounds] = {"before": defaultdict(list), "now": defaultdict(list)}
    better, version, console = {}, "", Console()
    with _tree_of(options.rev) as before:
        trees = {"before": before, "now": ROOT}
        for number in range(options.rounds):
            for name in sorted(trees, reverse=number % 2 == 1):
                for what, value, direction, version in _measure(trees[name], options):  # noqa: B007
                    found[name][what].append(value)
                    better[what] = direction
            console.print(
                f"round {number + 1} of {options.rounds}, load {os.getloadavg()[0]:.1f}"
            )
    today, python = datetime.now(UTC).date().isoformat(), sys.version.split()[0]
    console.print(f"{today}, {machine()}, {version}, Python {python}; before: {options.rev}")
    console.print(_table(found["before"], found["now"], better))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rev", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--scale", default="0.5", help="of the numbers of jobs")
    parser.add_argument("--workloads", default="drain,enqueue")
    parser.add_argument("--database", choices=RESULTS, default="postgres")
    return parser.parse_args()


@contextmanager
def _tree_of(rev: str) -> Iterator[Path]:
    """Check a commit out beside this one."""
    with tempfile.TemporaryDirectory(prefix="aftercommit_before_") as folder:
        tree = Path(folder, "tree")
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(tree), rev], check=True)
        try:
            yield tree
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)


def _measure(tree: Path, options: argparse.Namespace) -> list[tuple[str, float, str, str]]:
    command = [sys.executable, "-c", MEASURE, options.database, options.scale]
    given = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree / "src"), str(tree)])}
    answer = subprocess.check_output(
        [*command, *options.workloads.split(",")], cwd=tree, env=given, text=True
    )
    measured: list[tuple[str, float, str, str]] = json.loads(answer.splitlines()[-1])
    return measured


def _table(before: Rounds, now: Rounds, better: dict[str, str]) -> Table:
    table = Table("", "before", "now", "ratio", "of single rounds")
    for what in before:
        pairs = zip(before[what], now.get(what, []), strict=False)
        ratios = [b / a if better[what] == "more" else a / b for a, b in pairs if a and b]
        if ratios:
            middle = [f"{median(values):,.0f}" for values in (before[what], now[what])]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            table.add_row(what, *middle, f"{median(ratios):.2f}", spread)
    return table


if __name__ == "__main__":
    main()
