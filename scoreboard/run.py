"""Count the race: python -m scoreboard.run [--brokers redis,rabbitmq] [--libraries celery,rq].

For each library, broker and way a real consumer runs, and a web process makes the same
requests. Exits with 1 if relayed messages are not all right.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pika
import psycopg

from tests.databases import name_of_this_run, remove_sqlite_files, url_of

os.environ.setdefault("AFTERCOMMIT_DB", "sqlite")
os.environ["DJANGO_SETTINGS_MODULE"] = "scoreboard.settings"
name_of_this_run()  # the same in all processes

import django  # noqa: E402

django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

from scoreboard.site import NEW, NOTES, OLD, WAYS, notes  # noqa: E402
from tests.app.models import Effect  # noqa: E402
from tests.brokers.addresses import broker_url, is_there, queue_name  # noqa: E402

ROOT = Path(__file__).resolve().parents[1]
NOWHERE = {"redis": "redis://127.0.0.1:1/0", "rabbitmq": "amqp://guest:guest@127.0.0.1:1/%2F"}
ON = {
    "celery": ("redis", "rabbitmq"),
    "rq": ("redis",),
    "dramatiq": ("redis", "rabbitmq"),
    "huey": ("redis",),
}
SETTLED, PATIENCE = 1.5, 20.0  # seconds: without news; in all
OURS, OUTBOX = "aftercommit", "django-celery-outbox"


@dataclass(slots=True)
class Score:
    """What was counted for one library, broker and way; each of five requests a column."""

    library: str
    broker: str
    way: str
    early: int = 0  # the task found no row
    stale: int = 0  # it found the old one
    phantom: int = 0  # it ran for a row that never was
    lost: int = 0  # of a committed row: it never ran
    doubled: int = 0  # effects of a message that came twice
    failed: int = 0  # requests that failed because the broker was away
    returns_id: bool = False

    @property
    def is_right(self) -> bool:
        """Whether nothing is wrong with it."""
        wrong = self.early + self.stale + self.phantom + self.lost + self.failed + self.doubled
        return not wrong and self.returns_id


def main() -> int:
    """Measure, print."""
    options = _options()
    console = Console(width=120)
    scores = []
    with _database(), suppress(KeyboardInterrupt):
        call_command("migrate", run_syncdb=True, verbosity=0)
        for library in options.libraries:
            for broker in (one for one in ON[library] if one in options.brokers):
                scores += _measure(library, broker, console)
    console.print(_table(scores))
    wrong = [one for one in scores if one.way == OURS and not one.is_right]
    for one in wrong:
        console.print(f"Not right: {one}")
    return int(bool(wrong) or not scores)


@contextmanager
def _database() -> Iterator[None]:
    """Make a database of this run's own, and remove it with what is left in Redis."""
    name = name_of_this_run()
    on_server = os.environ["AFTERCOMMIT_DB"] == "postgres"
    if on_server:
        _on_server(f"CREATE DATABASE {name}")
    try:
        yield
    finally:
        for key in notes.scan_iter(f"*{name}*", count=1000):
            notes.delete(key)
        if is_there("rabbitmq"):
            _delete_queues()
        connections.close_all()
        if on_server:
            _on_server(f"DROP DATABASE {name} WITH (FORCE)")
        remove_sqlite_files(name)


def _delete_queues() -> None:
    with pika.BlockingConnection(pika.URLParameters(broker_url("rabbitmq"))) as connection:
        channel = connection.channel()
        for name in ("celery", "actors", "actors.DQ", "actors.XQ"):
            channel.queue_delete(queue_name(name))


def _on_server(statement: str) -> None:
    with psycopg.connect(url_of("postgres"), autocommit=True) as connection:
        connection.execute(statement)


def _options() -> argparse.Namespace:
    def names(text: str) -> list[str]:
        return text.split(",")

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--libraries", type=names, default=list(ON))
    parser.add_argument(
        "--brokers", type=names, default=[one for one in NOWHERE if is_there(one)]
    )
    return parser.parse_args()


def _measure(library: str, broker: str, console: Console) -> Iterator[Score]:
    for way in WAYS:
        if library not in WAYS[way] or (way == OUTBOX and not _outbox_works()):
            continue
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SCOREBOARD_URL": broker_url(broker),
        }
        if way == OURS:
            environment["SCOREBOARD_RELAY"] = library
        relay: list[str] = []
        if way == OURS:
            relay = ["aftercommit", "relay", "--backend", "default"]
        if way == OUTBOX:
            environment["SCOREBOARD_OUTBOX"] = "1"
            subprocess.run(
                [sys.executable, "-m", "django", "migrate", "--verbosity", "0"],
                cwd=ROOT,
                env=environment,
                check=True,
            )
            relay = ["celery_outbox_relay", "--idle-time", "0.1"]
        with _processes(library, environment, relay=relay):
            console.print(f"{library} on {broker}, {way} …")
            yield _score(Score(library, broker, way), environment)


def _outbox_works() -> bool:
    """Tell whether the database has what it needs; it says so itself."""
    return bool(connections["default"].features.has_select_for_update_skip_locked)


@contextmanager
def _processes(library: str, environment: dict[str, str], *, relay: list[str]) -> Iterator[None]:
    queue = queue_name("actors" if library == "dramatiq" else library)
    url = environment["SCOREBOARD_URL"]
    commands = [
        {
            "celery": ["celery", "-A", "scoreboard.site", "worker", "-P", "threads", "-c", "4"],
            "rq": ["rq.cli", "worker", "-w", "rq.worker.SimpleWorker", "-u", url, queue],
            "dramatiq": ["dramatiq", "scoreboard.site", "-p", "1", "-t", "4", "-Q", queue],
            "huey": ["huey.bin.huey_consumer", "scoreboard.site.huey", "-w", "4"],
        }[library]
    ]
    if relay:
        commands.append(["django", *relay])
    started = [
        subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for one in started:
            one.terminate()
        for one in started:
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()


def _score(score: Score, environment: dict[str, str]) -> Score:
    requests = partial(_requests, score, environment)
    notes.delete(NOTES)
    _seen(requests("created"))  # until the consumer is there
    made = requests("created")
    seen = _seen(made)
    score.early = sum(None in seen[one["pk"]] for one in made)
    score.returns_id = all(one["id"] for one in made)
    made = requests("edited")
    seen = _seen(made)
    score.stale = sum(OLD in seen[one["pk"]] for one in made)
    made = requests("rolled back")
    score.phantom = sum(bool(found) for found in _seen(made, wanted=0).values())
    made = requests("killed")
    seen = _seen(made)
    score.lost = sum(not seen[one["pk"]] for one in made)
    made = requests("delivered twice")
    score.doubled = sum(effects > 1 for effects in _effects(made))
    made = requests("broker away", SCOREBOARD_URL=NOWHERE[score.broker])
    score.failed = sum("failed" in one for one in made)
    committed = [one for one in made if one["committed"]]
    seen = _seen(committed)
    score.lost += sum(NEW not in seen[one["pk"]] for one in committed)
    return score


def _requests(
    score: Score, environment: dict[str, str], scenario: str, **more: str
) -> list[dict[str, Any]]:
    """Let a web process make the requests of a scenario; return what it says of each."""
    command = [sys.executable, "-m", "scoreboard.web", score.library, score.way, scenario]
    done = subprocess.run(
        command, cwd=ROOT, env=environment | more, stdout=subprocess.PIPE, check=True
    )
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _seen(made: list[dict[str, Any]], *, wanted: int | None = None) -> dict[int, list[Any]]:
    """Return what the tasks of these requests have seen, once nothing more comes."""
    wanted = len(made) if wanted is None else wanted
    ends, since, before = time.monotonic() + PATIENCE, time.monotonic(), -1
    while time.monotonic() < ends:
        seen: dict[int, list[Any]] = {one["pk"]: [] for one in made}
        for raw in notes.lrange(NOTES, 0, -1):
            _tag, pk, key = json.loads(raw)
            if pk in seen:
                seen[pk].append(key)
        number = sum(bool(one) for one in seen.values())
        if number != before:
            before, since = number, time.monotonic()
        if number >= wanted > 0 or (_is_warm() and time.monotonic() - since > SETTLED):
            break
        time.sleep(0.05)
    return seen


def _effects(made: list[dict[str, Any]]) -> list[int]:
    """Return how many effects each of these requests has had, once there are no more."""
    before = -1
    while (now := Effect.objects.count()) != before:
        before = now
        time.sleep(SETTLED)
    return [Effect.objects.filter(key=f"effect of {one['pk']}").count() for one in made]


def _is_warm() -> bool:
    """Tell whether the consumer has begun to work at all."""
    return bool(notes.llen(NOTES)) or Effect.objects.count() == 0


def _table(scores: list[Score]) -> Table:
    columns = ("early", "stale", "phantom", "lost", "doubled", "failed")
    table = Table(*("library", "broker", "way", *columns, "id returned"))
    for one in scores:
        counts = (str(getattr(one, name)) for name in columns)
        row = (one.library, one.broker, one.way, *counts, "yes" if one.returns_id else "no")
        table.add_row(*row, style="bold green" if one.is_right else "")
    return table


if __name__ == "__main__":
    sys.exit(main())
