"""How fast a relay publishes, beside a loop of the library: python -m benchmarks.relay.

The relay's messages were kept before; its time runs from the first that is in the broker
to the last, as the broker counts them. PostgreSQL, the tests' brokers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.brokers.addresses import broker_url, is_there, queue_name

os.environ |= {"AFTERCOMMIT_DB": "postgres", "DJANGO_SETTINGS_MODULE": "scoreboard.settings"}
ROOT = Path(__file__).resolve().parents[1]
MESSAGES = int(os.environ.get("MESSAGES", "5000"))


def main() -> None:
    """Measure each library on each broker."""
    for library, broker in (
        ("celery", "redis"),
        ("celery", "rabbitmq"),
        ("rq", "redis"),
        ("dramatiq", "redis"),
        ("dramatiq", "rabbitmq"),
        ("huey", "redis"),
    ):
        if is_there(broker):
            environment = {
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SCOREBOARD_RELAY": library,
                "SCOREBOARD_URL": broker_url(broker),
            }
            command = [sys.executable, "-m", "benchmarks.relay", library, broker]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)


def one(library: str, broker: str) -> None:
    """Measure one, in a process of its own."""
    from django.core.management import call_command  # noqa: PLC0415
    from django.db import transaction  # noqa: PLC0415

    from scoreboard.run import _database  # noqa: PLC0415 - sets Django up
    from scoreboard.site import SEND, notes  # noqa: PLC0415

    count = _counter(library, broker, notes)
    send = SEND[library]
    with _database():
        call_command("migrate", run_syncdb=True, verbosity=0)
        began = time.perf_counter()
        for number in range(MESSAGES):
            send("bench", number)
        loop = MESSAGES / (time.perf_counter() - began)
        before = count()
        with transaction.atomic():
            for number in range(MESSAGES):
                send("bench", number)
        relay = subprocess.Popen(
            [sys.executable, "-m", "django", "aftercommit", "relay", "--backend", "default"],
            cwd=ROOT,
            stderr=subprocess.DEVNULL,
        )
        rate = _rate(count, before)
        relay.terminate()
        relay.wait()
    print(
        f"{library} on {broker}: loop {loop:,.0f}/s, relay {rate:,.0f}/s, ratio {rate / loop:.2f}"
    )


def _rate(count: Callable[[], int], before: int) -> float:
    while (first := count()) == before:
        time.sleep(0.01)
    began = time.perf_counter()
    while (now := count()) < before + MESSAGES:
        time.sleep(0.01)
    return (now - first) / (time.perf_counter() - began)


def _counter(library: str, broker: str, client: Any) -> Callable[[], int]:
    """Return a function that asks the broker how many messages it has."""
    if broker == "rabbitmq":
        import pika  # noqa: PLC0415

        name = queue_name("actors" if library == "dramatiq" else library)
        channel = pika.BlockingConnection(pika.URLParameters(broker_url(broker))).channel()

        def depth() -> int:
            try:
                declared = channel.queue_declare(name, passive=True)
            except pika.exceptions.ChannelClosedByBroker:
                return 0
            return int(declared.method.message_count)

        return depth
    key = {
        "celery": queue_name("celery"),
        "rq": f"rq:queue:{queue_name('rq')}",
        "dramatiq": f"{queue_name('dramatiq')}:{queue_name('actors')}",
        "huey": f"huey.redis.{queue_name('huey')}",
    }[library]
    return lambda: int(client.llen(key))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        one(*sys.argv[1:])
    else:
        main()
