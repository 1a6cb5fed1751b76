"""Talks to RabbitMQ by pika, which Dramatiq brings. It takes the URLs that Dramatiq takes."""

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
        self._connection = BlockingConnection(hosts)
        self._channel = self._connection.channel()

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

    def _wait(self) -> None:
        """See ``Link._wait``."""
        self._channel.basic_qos()
