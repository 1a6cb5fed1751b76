"""How fast a relay publishes, beside a loop of the library: python -m benchmarks.relay.

The loop's time ends when the broker has all of its messages: some libraries do not wait for
that. The relay's messages were kept before; its time runs from the first that is in the
broker to the last, as the broker counts them. Then, one by one, how long after its commit
a message is there. PostgreSQL, the tests' brokers.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import transaction

from tests.brokers.addresses import broker_url, is_there, queue_name

os.environ |= {"AFTERCOMMIT_DB": "postgres", "DJANGO_SETTINGS_MODULE": "scoreboard.settings"}
ROOT = Path(__file__).resolve().parents[1]
ONE_BY_ONE = 100
MESSAGES = int(os.environ.get("MESSAGES", "15000"))


def main() -> None:
    """Measure each library on each broker."""
    confirms = {"SCOREBOARD_CONFIRMS": "yes"}
    for library, broker, more in (
        ("celery", "redis", {}),
        ("celery", "rabbitmq", {}),
        ("rq", "redis", {}),
        ("dramatiq", "redis", {}),
        ("dramatiq", "rabbitmq", {}),
        ("dramatiq", "rabbitmq", confirms),
        ("huey", "redis", {}),
    ):
        if is_there(broker):
            environment = {
                **os.environ,
                **more,
                "PYTHONPATH": str(ROOT),
                "SCOREBOARD_RELAY": library,
                "SCOREBOARD_URL": broker_url(broker),
            }
            command = [sys.executable, "-m", "benchmarks.relay", library, broker]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)


def one(library: str, broker: str) -> None:
    """Measure one, in a process of its own."""
    from django.core.management import call_command  # noqa: PLC0415

    from scoreboard.run import _database  # noqa: PLC0415 - sets Django up
    from scoreboard.site import SEND, notes  # noqa: PLC0415

    count = _counter(library, broker, notes)
    send = SEND[library]
    with _database():
        call_command("migrate", run_syncdb=True, verbosity=0)
        before, began = count(), time.perf_counter()
        for number in range(MESSAGES):
            send("bench", number)
        while count() < before + MESSAGES:
            time.sleep(0.001)
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
        waits = sorted(_wait(count, send) for _time in range(ONE_BY_ONE))
        relay.terminate()
        relay.wait()
    where = f"{library} on {broker}"
    if "SCOREBOARD_CONFIRMS" in os.environ:
        where += ", with confirms in the loop, too"
    print(
        f"{where}: loop {loop:,.0f}/s, relay {rate:,.0f}/s, ratio {rate / loop:.2f}; "
        f"after the commit p50 {waits[ONE_BY_ONE // 2] * 1000:.1f} ms, "
        f"p95 {waits[ONE_BY_ONE * 95 // 100] * 1000:.1f} ms"
    )


def _wait(count: Callable[[], int], send: Callable[..., Any]) -> float:
    """Return how long after its commit a message is in the broker."""
    time.sleep(0.05)  # the relay has nothing else to do
    before = count()
    with transaction.atomic():
        send("bench", 0)
    committed = time.perf_counter()
    while count() == before:
        pass
    return time.perf_counter() - committed


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
        connection = pika.BlockingConnection(pika.URLParameters(broker_url(broker)))
        channel = connection.channel()

        def depth() -> int:
            nonlocal channel
            try:
                declared = channel.queue_declare(name, passive=True)
            except pika.exceptions.ChannelClosedByBroker:  # there is no such queue yet
                channel = connection.channel()
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
