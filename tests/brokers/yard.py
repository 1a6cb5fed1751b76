"""The same site with RQ, Dramatiq and Huey."""

import dramatiq
import redis as redis_client
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from huey import RedisHuey
from rq import Queue

from tests.brokers.addresses import broker_url, queue_name

NOWHERE = "redis://127.0.0.1:1/0"  # nobody listens there

client = redis_client.Redis.from_url(broker_url("redis"))
rq_queue = Queue(queue_name("rq"), connection=client)
rq_nowhere = Queue(queue_name("rq"), connection=redis_client.Redis.from_url(NOWHERE))
huey = RedisHuey(queue_name("huey"), url=broker_url("redis"))
on_redis = RedisBroker(url=broker_url("redis"), namespace=queue_name("dramatiq"))
on_rabbitmq = RabbitmqBroker(url=broker_url("rabbitmq"))
dramatiq.set_broker(on_redis)


def note(*words):
    """Leave one effect for each word."""
    from tests.app.models import Effect  # noqa: PLC0415 - apps are loaded by then

    for word in words:
        Effect.objects.create(key=str(word))


actor = dramatiq.actor(note, actor_name="yard.note", queue_name=queue_name("actors"))
huey_task = huey.task(name="huey_note")(note)
