"""Dramatiq: every way to send a message ends in ``Broker.enqueue``."""

import copy
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

import dramatiq
from dramatiq.common import dq_name
from dramatiq.composition import pipeline
from dramatiq.errors import ConnectionClosed
from dramatiq.message import Message as DramatiqMessage

from aftercommit.relay.brokers.base import (
    Away,
    Broker,
    Message,
    Outbox,
    Report,
    as_bytes,
    as_json,
    publish_or_keep,
)
from aftercommit.relay.brokers.logins import Login, amqp_login, redis_login
from aftercommit.relay.brokers.per_thread import PerThread
from aftercommit.relay.brokers.reachable import Address, is_reachable, redis_servers
from aftercommit.relay.brokers.servers import bounded, not_kept, same_redis
from aftercommit.relay.brokers.unsent import after_commit, refusing

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

    from aftercommit.relay.brokers.rabbitmq.publisher import Publisher

    AWAY += (pika.exceptions.AMQPError,)
except ImportError:
    RabbitmqBroker = None


class Dramatiq(Broker):
    """Dramatiq on Redis or RabbitMQ: the broker of ``dramatiq.get_broker()``."""

    name = "dramatiq"

    def __init__(self) -> None:
        super().__init__()
        self._publishers = PerThread[Any](lambda broker: Publisher(broker.parameters))

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in ``enqueue`` of both brokers."""
        for kind in (RedisBroker, RabbitmqBroker):
            if kind is not None:
                kind.enqueue = _asking(outbox, kind.enqueue)
        DramatiqMessage.get_result = refusing(
            DramatiqMessage.get_result, lambda one: [one.message_id], unless=_does_not_wait
        )
        for name in ("get_result", "get_results"):
            method = refusing(getattr(pipeline, name), _messages, unless=_does_not_wait)
            setattr(pipeline, name, method)

    def publish(self, content: dict[str, Any]) -> None:
        """Publish the encoded message as the library's broker does."""
        broker = dramatiq.get_broker()
        if not _is_redis(broker):
            ends: list[BaseException | None] = []
            self._to_rabbitmq(broker, {0: content}, lambda _number, error: ends.append(error))
            if ends[0] is not None:
                raise ends[0]
            return
        with _translated():
            body = as_bytes(content["body"])
            _bounded(broker).do_enqueue(content["routing_key"], content["redis_id"], body)

    def publish_many(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Publish several messages, and on RabbitMQ wait for all their confirms together."""
        broker = dramatiq.get_broker()
        if _is_redis(broker):
            super().publish_many(contents, report)
        else:
            self._to_rabbitmq(broker, contents, report)

    def _to_rabbitmq(
        self, broker: Any, contents: Mapping[int, dict[str, Any]], report: Callable[..., None]
    ) -> None:
        def ended(number: int, error: Exception | None) -> None:
            if error is not None:
                # The queue may have been deleted: declare it again before the next message.
                broker.queues_pending.add(contents[number]["queue"])
            report(number, error)

        with _translated():
            for queue in {content["queue"] for content in contents.values()}:
                broker.declare_queue(queue, ensure=True)
            with self._publishers.of(broker) as publisher:
                for number, content in contents.items():
                    publisher.publish(
                        routing_key=content["routing_key"],
                        body=as_bytes(content["body"]),
                        properties=pika.BasicProperties(
                            delivery_mode=2, priority=content["priority"]
                        ),
                        ended=partial(ended, number),
                    )
                publisher.wait()

    def logins(self) -> list[Login]:
        """Return the servers of the broker."""
        broker = dramatiq.get_broker()
        if _is_redis(broker):
            return redis_login(broker.client)
        found = [one for one in _parameters(broker) if hasattr(one, "credentials")]
        return [
            amqp_login(one.host, user.username, user.password)
            for one in found
            if hasattr(user := one.credentials, "password")
        ]

    def close(self) -> None:
        """Close the connections to RabbitMQ."""
        self._publishers.close()


_bounded_brokers: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _bounded(broker: Any) -> Any:
    """Return a broker like this one that does not wait for Redis for ever."""
    if broker not in _bounded_brokers:
        _bounded_brokers[broker] = copied = copy.copy(broker)
        copied.client = bounded(broker.client)
        copied.scripts = {
            name: copied.client.register_script(one.script)
            for name, one in broker.scripts.items()
        }
    return _bounded_brokers[broker]


def _is_redis(broker: Any) -> bool:
    return RedisBroker is not None and isinstance(broker, RedisBroker)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise ``Away``, except when RabbitMQ refuses a queue or a message: raise its own error."""
    try:
        yield
    except AWAY as error:
        cause = error.args[0] if isinstance(error, ConnectionClosed) and error.args else error
        if RabbitmqBroker and isinstance(cause, pika.exceptions.ChannelClosedByBroker):
            raise cause from None
        raise Away(str(error)) from error


def _asking(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: Any, message: DramatiqMessage[Any], *, delay: int | None = None) -> Any:
        return publish_or_keep(
            outbox,
            "dramatiq",
            when=_when(self, message),
            away=AWAY,
            publish=lambda: original(self, message, delay=delay),
            keep=lambda using: _keep(self, message, delay, outbox, using),
            fault=lambda: _fault(self),
            there=lambda: is_reachable(self, lambda: _servers(self)),
        )

    return enqueue


def _does_not_wait(*_args: Any, block: bool = False, **_options: Any) -> bool:
    return not block


def _messages(several: Any) -> list[str]:
    return [one.message_id for one in several.messages]


def _servers(broker: Any) -> list[list[Address]]:
    if _is_redis(broker):
        return redis_servers(broker.client.connection_pool)
    return [[(one.host, one.port) for one in _parameters(broker) if hasattr(one, "host")]]


def _parameters(broker: Any) -> Sequence[Any]:
    several = getattr(broker, "parameters", ())
    return several if isinstance(several, Sequence) else [several]


def _fault(broker: Any) -> str | None:
    own = dramatiq.get_broker()
    if broker is own or _same_server(broker, own):
        return None
    return not_kept(
        "Dramatiq",
        "An actor belongs to another broker than dramatiq.get_broker() returns.",
        "call dramatiq.set_broker() with the broker of the actor before the actor is declared",
    )


def _same_server(one: Any, other: Any) -> bool:
    if _is_redis(one) and _is_redis(other):
        return bool(one.namespace == other.namespace and same_redis(one.client, other.client))
    if _is_redis(one) or _is_redis(other):
        return False
    return bool(getattr(one, "parameters", one) == getattr(other, "parameters", other))


def _when(broker: Any, message: DramatiqMessage[Any]) -> str | None:
    actor = broker.actors.get(message.actor_name)
    return getattr(getattr(actor, "fn", None), "aftercommit", None)


def _keep(
    broker: Any, message: DramatiqMessage[Any], delay: int | None, outbox: Outbox, using: str
) -> DramatiqMessage[Any]:
    """Store what the broker would have sent; the middleware is called now and at the commit."""
    queue, redis_id = message.queue_name, str(uuid4())
    options: dict[str, Any] = {}
    if _is_redis(broker):
        options["redis_message_id"] = redis_id  # of this copy: a retry has a new one
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
    outbox.keep(kept, using=using)
    after_commit(lambda: broker.emit_after("enqueue", sent, delay), using=using)
    return sent
