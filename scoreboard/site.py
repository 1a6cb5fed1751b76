"""Its tasks, as each library's documentation writes them, and the ways to call them."""

import json
import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import django

django.setup()

import dramatiq  # noqa: E402
import redis  # noqa: E402
from celery import Celery  # noqa: E402
from django.db import close_old_connections, transaction  # noqa: E402
from dramatiq.brokers.rabbitmq import RabbitmqBroker  # noqa: E402
from dramatiq.brokers.redis import RedisBroker  # noqa: E402
from dramatiq.middleware import CurrentMessage  # noqa: E402
from huey import RedisHuey  # noqa: E402
from rq import Queue  # noqa: E402

from aftercommit import once  # noqa: E402
from tests.app.models import Effect  # noqa: E402
from tests.brokers.addresses import broker_url, queue_name  # noqa: E402

URL = os.environ.get("SCOREBOARD_URL", broker_url("redis"))
NOTES = queue_name("notes")  # a list in Redis: what the tasks have seen
OLD, NEW = "old", "new"
notes = redis.Redis.from_url(broker_url("redis"))

if os.environ.get("SCOREBOARD_OUTBOX"):
    from django_celery_outbox import OutboxCelery as Celery

app = Celery("scoreboard", broker=URL)
app.conf.update(
    task_default_queue=queue_name("celery"),
    task_publish_retry=False,
    broker_transport_options={"max_retries": 1, "interval_start": 0, "interval_step": 0},
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


def look(tag: str, pk: int) -> None:
    """Note what is in the row that a task was told to work on."""
    close_old_connections()
    seen = Effect.objects.filter(pk=pk).values_list("key", flat=True).first()
    notes.rpush(NOTES, json.dumps([tag, pk, seen]))


def act(tag: str, pk: int) -> None:
    """Leave an effect in the database."""
    Effect.objects.create(key=f"effect of {pk}")
    notes.rpush(NOTES, json.dumps([tag, pk, NEW]))


# As our documentation writes it; Huey does not tell a task the id of its message.
act_once = once(act)
act_once_in_huey = once(key=lambda _tag, pk: f"message about {pk}")(act)
if os.environ.get("SCOREBOARD_RELAY"):
    act, act_in_huey = act_once, act_once_in_huey
else:
    act_in_huey = act

celery_task = app.task(name="scoreboard.look")(look)
celery_act = app.task(name="scoreboard.act")(act)
if URL.startswith("amqp"):
    confirms = "SCOREBOARD_CONFIRMS" in os.environ  # of Dramatiq itself; as a rule it has none
    dramatiq.set_broker(RabbitmqBroker(url=URL, confirm_delivery=confirms))
else:
    dramatiq.set_broker(RedisBroker(url=URL, namespace=queue_name("dramatiq")))
    huey = RedisHuey(queue_name("huey"), url=URL)
    huey_task = huey.task(name="look")(look)
    huey_act = huey.task(name="act")(act_in_huey)
dramatiq.get_broker().add_middleware(CurrentMessage())
actor = dramatiq.actor(look, actor_name="look", queue_name=queue_name("actors"))
actor_act = dramatiq.actor(act, actor_name="act", queue_name=queue_name("actors"))

Send = Callable[[str, int], Any]
SEND: dict[str, Send] = {
    "celery": celery_task.delay,
    "dramatiq": actor.send,
}
if not URL.startswith("amqp"):
    SEND["huey"] = huey_task
    rq_queue = Queue(queue_name("rq"), connection=redis.Redis.from_url(URL))
    SEND["rq"] = partial(rq_queue.enqueue, look)

ACT: dict[str, Send] = {"celery": celery_act.delay, "dramatiq": actor_act.send}
# A broker may deliver a message twice: the same message, with the same id.
AGAIN: dict[str, Callable[..., Any]] = {
    "celery": lambda sent, *args: celery_act.apply_async(args, task_id=sent.id),
    "dramatiq": lambda sent, *_args: dramatiq.get_broker().enqueue(sent),
}
if "huey" in SEND:
    ACT |= {"huey": huey_act, "rq": partial(rq_queue.enqueue, act)}
    AGAIN |= {
        "huey": lambda sent, *_args: huey.enqueue(sent.task),
        "rq": lambda sent, *_args: rq_queue.enqueue_job(sent),
    }

COUNTDOWN: dict[str, Send] = {
    "celery": lambda tag, pk: celery_task.apply_async([tag, pk], countdown=0.3),
}


def on_commit(send: Send, tag: str, pk: int) -> None:
    """Do what every documentation proposes."""
    transaction.on_commit(partial(send, tag, pk))


WAYS: dict[str, dict[str, Send]] = {
    "as it comes": SEND,
    "countdown": COUNTDOWN,
    "on_commit": {name: partial(on_commit, send) for name, send in SEND.items()},
    "aftercommit": SEND,
}
if find_spec("django_celery_outbox"):
    WAYS["django-celery-outbox"] = {"celery": celery_task.delay}
