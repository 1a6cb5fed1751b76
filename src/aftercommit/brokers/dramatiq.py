"""Dramatiq: every way to send a message ends in ``Broker.enqueue``."""

import logging
import time
from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import uuid4

import dramatiq
from dramatiq.common import dq_name
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message as DramatiqMessage

from aftercommit.brokers.base import Away, Broker, Keeper, Message, as_bytes, as_json

logger = logging.getLogger("aftercommit")

AWAY: tuple[type[BaseException], ...] = (ConnectionClosed, OSError)
try:
    import redis.exceptions
    from dramatiq.brokers.redis import RedisBroker

    AWAY += (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
except ImportError:
    RedisBroker = None
try:
    import pika
    import pika.exceptions
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    AWAY += (pika.exceptions.AMQPError,)
except ImportError:
    RabbitmqBroker = None


class Dramatiq(Broker):
    """Dramatiq on Redis or RabbitMQ: the broker of ``dramatiq.get_broker()``."""

    name = "dramatiq"

    def capture(self, keeper: Keeper) -> None:
        """Ask the keeper in ``enqueue`` of both brokers."""
        for kind in (RedisBroker, RabbitmqBroker):
            if kind is not None:
                kind.enqueue = _asking(keeper, kind.enqueue)

    def publish(self, content: dict[str, Any]) -> None:
        """Hand over the encoded message as the library's broker does."""
        broker = dramatiq.get_broker()
        try:
            if RedisBroker is not None and isinstance(broker, RedisBroker):
                body = as_bytes(content["body"])
                broker.do_enqueue(content["routing_key"], content["redis_id"], body)
            else:
                _to_rabbitmq(broker, content)
        except AWAY as error:
            raise Away(str(error)) from error


def _to_rabbitmq(broker: Any, content: dict[str, Any]) -> None:
    try:
        broker.declare_queue(content["queue"], ensure=True)
        channel = broker.channel
        if not getattr(channel, "_aftercommit_confirms", broker.confirm_delivery):
            channel.confirm_delivery()
            channel._aftercommit_confirms = True
        channel.basic_publish(
            exchange="",
            routing_key=content["routing_key"],
            body=as_bytes(content["body"]),
            properties=pika.BasicProperties(delivery_mode=2, priority=content["priority"]),
            mandatory=True,
        )
    except pika.exceptions.UnroutableError:
        broker.queues_pending.add(content["queue"])  # somebody has deleted it
        raise
    except pika.exceptions.AMQPError:
        del broker.connection  # so that the next one is new
        raise


def _asking(keeper: Keeper, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(
        self: Any, message: DramatiqMessage[Any], *, delay: int | None = None
    ) -> DramatiqMessage[Any]:
        when = _when(self, message)
        using = keeper.alias("dramatiq", when=when)
        if using is None:
            try:
                return original(self, message, delay=delay)
            except AWAY as error:
                using = keeper.alias_if_away("dramatiq", when=when)
                if using is None:
                    raise
                logger.warning("Dramatiq's broker is away (%s); its message is kept", error)
        return _keep(self, message, delay, keeper, using)

    return enqueue


def _when(broker: Any, message: DramatiqMessage[Any]) -> str | None:
    actor = broker.actors.get(message.actor_name)
    return getattr(getattr(actor, "fn", None), "aftercommit", None)


def _keep(
    broker: Any, message: DramatiqMessage[Any], delay: int | None, keeper: Keeper, using: str
) -> DramatiqMessage[Any]:
    """Keep what the broker would have sent; middleware sees the message now."""
    queue, redis_id = message.queue_name, str(uuid4())
    options: dict[str, Any] = {}
    if RedisBroker is not None and isinstance(broker, RedisBroker):
        options["redis_message_id"] = redis_id  # of this copy: a retry has another
    sent = message.copy(options=options)
    if delay is not None:
        eta = int(time.time() * 1000) + delay
        sent = sent.copy(queue_name=dq_name(queue), options={"eta": eta})
    broker.emit_before("enqueue", sent, delay)
    content = {
        "queue": queue,
        "routing_key": sent.queue_name,
        "redis_id": redis_id,
        "priority": sent.options.get("broker_priority"),
        "body": as_json(sent.encode()),
    }
    kept = Message(
        broker="dramatiq",
        message_id=sent.message_id,
        name=sent.actor_name,
        content=content,
    )
    keeper.keep(kept, using=using)
    broker.emit_after("enqueue", sent, delay)
    return sent
