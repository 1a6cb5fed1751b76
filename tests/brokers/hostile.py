"""Rows that somebody else has written are published under a tripwire, in a process of its own.

Each library keeps a real message. Each value in it is replaced in turn, also by what a library
would unpickle, import or evaluate, and everything is published. Prints what was noticed as JSON.
"""

import base64
import json
import os
import pickle
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.brokers.hostile_settings"

import django

django.setup()

import django_rq  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django_q.tasks import async_task  # noqa: E402
from kombu.utils.json import register_type  # noqa: E402

from aftercommit.options.queues import queues_of  # noqa: E402
from aftercommit.relay import publish as relay  # noqa: E402
from aftercommit.relay.outbox import PUBLISH  # noqa: E402
from aftercommit.store import store_for  # noqa: E402
from aftercommit.values import NewJob  # noqa: E402
from aftercommit.worker.claiming import broker_backoff  # noqa: E402
from tests.brokers import elsewhere_tasks, shop, yard  # noqa: E402
from tests.brokers.addresses import queue_name  # noqa: E402
from tests.brokers.conftest import kept, run_relay  # noqa: E402
from tests.brokers.tripwire import Tripwire  # noqa: E402
from tests.tiers import FULL, VARIABLE  # noqa: E402


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


class Trap:
    """A type of a project, whose decoder is not for the relay to call."""


def poisons(mark: str) -> list[Any]:
    """Return what a library might unpickle, import or evaluate."""
    text, data = (pickle.dumps(Bomb(mark), protocol).decode("latin-1") for protocol in (0, 4))
    raw = data.encode("latin-1")
    return [
        text,
        {"text": text},
        {"base64": base64.b64encode(raw).decode()},
        {"base64": base64.b64encode(zlib.compress(raw)).decode()},
        {"__type__": "trap", "__value__": mark},
        {"__type__": "base64", "__value__": base64.b64encode(raw).decode()},
        "tests.brokers.trap.run",
        f"__import__('os').system('touch {mark}')",
        f"!!python/object/apply:os.system ['touch {mark}']",
        {"args": [mark], "retry": True, "retry_policy": {"errback": mark}},
        queue_name("sync"),
        None,
        7,
    ]


# Each place gets some of the poisons; in the full tier, all.
STEP = 1 if os.environ.get(VARIABLE) == FULL else 5
# What the libraries' own code knows beside what a message has.
MORE = (
    *("result", "exc_info", "meta", "serializer", "compression", "retry", "retry_policy"),
    *("success_callback_name", "webhooks", "group_id", "dependency_ids", "rate_limit_key"),
    *("channel", "on_declared", "job_class", "func", "__class__", "content_type", "body"),
)


def variants(value: Any, poison: Any, *, more: bool) -> Iterator[Any]:
    """Yield a value with each of its parts replaced, and with more parts."""
    yield poison
    parts = {}
    if isinstance(value, dict):
        parts = value | {name: None for name in MORE if more and name not in value}
    elif isinstance(value, list):
        parts = dict(enumerate(value))
    for name, one in parts.items():
        for other in variants(one, poison, more=more):
            yield _with(value, name, other)


def _with(value: Any, name: Any, one: Any) -> Any:
    changed = value.copy()
    changed[name] = one
    return changed


BYTES = {"body", "task", "package"}  # the fields whose values a consumer unpickles


def send_all() -> None:
    """Send a message with each library."""
    shop.note.apply_async(["a"], countdown=5, headers={"tenant": "x"}, priority=3)
    django_rq.get_queue(queue_name("rq")).enqueue(yard.note, "a", meta={"who": "me"})
    yard.actor.send("a")
    yard.huey_task("a")
    async_task("math.copysign", 2, -2)
    elsewhere_tasks.note.enqueue("a", b=1)


def publish(call: dict[str, Any]) -> bool:
    """Publish one message; return whether its library has taken it."""
    ends: list[BaseException | None] = []
    relay.publish_many([call], lambda _number, error, _value=None: ends.append(error))
    for name in ("celery", "rq", "dramatiq", "huey", "django_q", "tasks"):
        for queue in queues_of(name):
            broker_backoff.resume(queue)
    relay._in_vain.clear()
    return ends == [None]


def insert(calls: list[dict[str, Any]], mark: Path) -> None:
    """Insert rows, for a worker to claim and publish."""
    rows = []
    for call in calls:
        for poison in poisons(str(mark)):
            content = call["content"]
            content = content | dict.fromkeys(BYTES & content.keys(), poison)
            if "job" in content:
                content["job"] = {**content["job"], "result": poison, "meta": poison}
            payload = json.dumps({"args": [], "kwargs": {**call, "content": content}})
            queue = f"relay.{call['broker']}"
            rows.append(NewJob(task_path=PUBLISH, queue=queue, payload=payload, max_attempts=1))
    store_for("default").insert(rows)


def main() -> None:
    """Publish real messages and hostile ones."""
    mark = Path(sys.argv[1])
    register_type(Trap, "trap", str, lambda value: mark.touch())
    call_command("migrate", verbosity=0)
    send_all()
    with transaction.atomic():
        send_all()
    calls = [job.kwargs for job in kept()]
    taken, refused = Counter[str](), Counter[str]()
    wire = Tripwire()
    for call in calls:
        assert publish(call), call["broker"]  # loads what the library loads when it is used
    with wire.armed():
        for call in calls:
            assert publish(call)
        for number, poison in enumerate(poisons(str(mark))):
            for call in calls:
                all_of_them = variants(call, poison, more=number in {0, 3})
                for other in islice(all_of_them, number % STEP, None, STEP):
                    if isinstance(other, dict):
                        (taken if publish(other) else refused)[call["broker"]] += 1
    noticed = sorted(set(wire.noticed))
    insert(calls, mark)
    run_relay()
    found = {"noticed": noticed, "taken": taken, "refused": refused, "mark": mark.exists()}
    with wire.armed():
        pickle.loads(pickle.dumps(Bomb(str(mark))))  # noqa: S301 - what a consumer would do
    print(json.dumps({**found, "control": " ".join(wire.noticed)}))


if __name__ == "__main__":
    main()
