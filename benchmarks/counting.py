"""What statistics and middleware cost a run, in CPU time: ``python -m benchmarks.counting``.

Drains the same jobs by one worker process of four threads: without either, with statistics, with
middleware that does nothing. Every round does each of them, in another order, and the ratios are
between the drains of one round, so that a machine that becomes slow is slow for all.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import time
from statistics import median
from typing import Any, NamedTuple

from psycopg.conninfo import conninfo_to_dict

from benchmarks.server import Server, database, machine
from tests.databases import django_databases

NOTHING = "benchmarks.counting_tasks.nothing"
CASES: dict[str, dict[str, Any]] = {
    "neither": {"statistics": False},
    "statistics": {"statistics": True},
    "one middleware": {"statistics": False, "middleware": [NOTHING]},
    "five middleware": {"statistics": False, "middleware": [NOTHING] * 5},
    "not fused": {"statistics": False, "fuse": False},
}
TASKS = ("noop", "atomic_row")
FIRST = "neither"
WARM_UP = 50  # jobs


class Cost(NamedTuple):
    """CPU seconds of one drain."""

    worker: float
    server: float  # 0 if it is not ours alone, or there is none


def main() -> None:
    """Measure, and print a table for each task."""
    options = _options()
    if options.drain:
        print(json.dumps(_drain(options.drain, options.jobs)))
        return
    with database(options.database) as server:
        print(f"{server.version}, {machine()}; {options.jobs:,} jobs, {options.rounds} rounds\n")
        for task in options.tasks.split(","):
            rounds = [_round(server, task, n, options.jobs) for n in range(options.rounds)]
            _show(task, rounds, options.jobs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", default="postgres", help="sqlite, postgres or mariadb")
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", default=",".join(TASKS), help="with commas between them")
    parser.add_argument("--drain", choices=TASKS, help="do one drain, in this process")
    return parser.parse_args()


def _round(server: Server, task: str, number: int, jobs: int) -> dict[str, Cost]:
    names = list(CASES)
    turn = number % len(names)
    return {name: _measured(server, task, name, jobs) for name in names[turn:] + names[:turn]}


def _measured(server: Server, task: str, name: str, jobs: int) -> Cost:
    command = [sys.executable, "-m", "benchmarks.counting", "--drain", task, "--jobs", str(jobs)]
    told = subprocess.run(
        command,
        env={
            **os.environ,
            "BENCH_DATABASE": server.kind,
            "BENCH_DSN": server.dsn,
            "BENCH_SERVER_PID": str(server.pid or ""),
            "BENCH_OPTIONS": json.dumps(CASES[name]),
        },
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Cost(*json.loads(told.stdout.splitlines()[-1]))


def _show(task: str, rounds: list[dict[str, Cost]], jobs: int) -> None:
    of_worker, of_server = "worker, µs a job", "server, µs a job"
    print(f"{task:18}{of_worker:>18}{'ratio':>8}{'':14}{of_server:>18}{'ratio':>8}")
    for name in CASES:
        costs = [(one[name], one[FIRST]) for one in rounds]
        ratios = sorted(cost.worker / first.worker for cost, first in costs)
        worker = median(cost.worker for cost, _first in costs) / jobs * 1e6
        line = (
            f"{name:18}{worker:>18.0f}{median(ratios):>8.2f}  {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )
        if all(first.server for _cost, first in costs):
            server = median(cost.server for cost, _first in costs) / jobs * 1e6
            ratio = median(cost.server / first.server for cost, first in costs)
            line += f"{server:>18.0f}{ratio:>8.2f}"
        print(line)
    print(flush=True)


# ---- one drain, in a process of its own ---------------------------------------------


def _drain(name: str, jobs: int) -> Cost:
    _set_up()
    from aftercommit import enqueue_many  # noqa: PLC0415 - settings come first
    from benchmarks import counting_tasks  # noqa: PLC0415

    task = getattr(counting_tasks, name)
    enqueue_many(task, [(one,) for one in range(WARM_UP)])
    _work(WARM_UP)  # what is imported and built once
    enqueue_many(task, [(one,) for one in range(jobs)])
    pid = os.environ["BENCH_SERVER_PID"]
    server = Server(kind="", dsn="", version="", pid=int(pid) if pid else None)
    gc.collect()
    before = time.process_time(), server.cpu()
    _work(jobs)
    return Cost(time.process_time() - before[0], server.cpu() - before[1])


def _work(jobs: int) -> None:
    from aftercommit.options.worker import WorkerConfig  # noqa: PLC0415
    from aftercommit.worker.quota import RunQuota  # noqa: PLC0415
    from aftercommit.worker.worker import Worker  # noqa: PLC0415

    worker = Worker(WorkerConfig(backends=("default",), drain=True), quota=RunQuota(None))
    worker.run()
    if worker.done != jobs:
        raise SystemExit(f"{worker.done} of {jobs} jobs were run.")


def _set_up() -> None:
    import django  # noqa: PLC0415 - settings come first
    from django.conf import settings  # noqa: PLC0415
    from django.core.management import call_command  # noqa: PLC0415

    settings.configure(
        USE_TZ=True,
        INSTALLED_APPS=["aftercommit"],
        DATABASES={"default": _database(os.environ["BENCH_DATABASE"], os.environ["BENCH_DSN"])},
        TASKS={
            "default": {
                "BACKEND": "aftercommit.DatabaseBackend",
                "OPTIONS": {
                    "task_modules": ["benchmarks.counting_tasks"],
                    **json.loads(os.environ["BENCH_OPTIONS"]),
                },
            }
        },
    )
    django.setup()
    from django.db import connection  # noqa: PLC0415

    call_command("migrate", verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE IF NOT EXISTS bench_row (number bigint)")
        cursor.execute("DELETE FROM bench_row")
        cursor.execute("DELETE FROM aftercommit_job")


def _database(kind: str, dsn: str) -> dict[str, Any]:
    if kind != "postgres":
        return django_databases(kind, dsn)["default"]
    server = conninfo_to_dict(dsn)
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": server["host"],
        "PORT": server["port"],
        "USER": server["user"],
        "NAME": server["dbname"],
    }


if __name__ == "__main__":
    main()
