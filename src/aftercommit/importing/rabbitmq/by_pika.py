"""Talks to RabbitMQ by pika, which Dramatiq brings. It takes the URLs that Dramatiq takes."""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from pika import BlockingConnection, URLParameters
from pika.exceptions import AMQPError, ChannelClosedByBroker

from aftercommit.importing.rabbitmq.link import Delivery, Link

NOT_FOUND = 404


class PikaLink(Link):
    """Without heartbeats: they would not be answered while a transaction is committed."""

    errors = (AMQPError, OSError)

    def __init__(self, url: str) -> None:
        hosts = [URLParameters(one) for one in url.split(";")]
        for one in hosts:
            one.heartbeat = 0
        self._connection: Any = BlockingConnection(hosts)
        self._channel: Any = self._connection.channel()

    def length(self, queue: str) -> int | None:
        """See ``Link.length``. RabbitMQ closes the channel on which it has no such queue."""
        channel = self._connection.channel()
        try:
            number: int = channel.queue_declare(queue, passive=True).method.message_count
        except ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            return None
        channel.close()
        return number

    def get(self, queue: str) -> Delivery | None:
        """See ``Link.get``."""
        method, said, body = self._channel.basic_get(queue)
        if method is None:
            return None
        return Delivery(
            tag=method.delivery_tag,
            body=body,
            content_type=said.content_type,
            headers=said.headers or {},
            priority=said.priority,
        )

    def acknowledge(self, tags: Iterable[int]) -> None:
        """See ``Link.acknowledge``."""
        for tag in tags:
            self._channel.basic_ack(tag)
        self._wait()

    def put_back(self, tags: Iterable[int]) -> None:
        """See ``Link.put_back``."""
        for tag in tags:
            self._channel.basic_reject(tag, requeue=True)
        self._wait()

    def close(self) -> None:
        """See ``Link.close``."""
        with suppress(*self.errors):
            self._connection.close()

    def _wait(self) -> None:
        # RabbitMQ answers this one, and a channel's methods are read one after the other.
        self._channel.basic_qos()
