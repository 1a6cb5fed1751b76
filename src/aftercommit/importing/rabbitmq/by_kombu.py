"""Talks to RabbitMQ by kombu, which Celery brings. It takes the URLs that Celery takes."""

from amqp.exceptions import NotFound
from kombu import Connection

from aftercommit.importing.rabbitmq.link import Delivery, Link

SECONDS_TO_CONNECT = 10


class KombuLink(Link):
    """Without heartbeats: they would not be answered while a transaction is committed."""

    def __init__(self, url: str) -> None:
        self._connection = Connection(url, connect_timeout=SECONDS_TO_CONNECT, heartbeat=0)
        self.errors = (*self._connection.connection_errors, *self._connection.channel_errors)
        self._channel = self._connection.channel()

    def length(self, queue: str) -> int | None:
        """See ``Link.length``. RabbitMQ closes the channel on which it has no such queue."""
        channel = self._connection.channel()
        try:
            number: int = channel.queue_declare(queue, passive=True).message_count
        except NotFound:
            return None
        channel.close()
        return number

    def get(self, queue: str) -> Delivery | None:
        """See ``Link.get``."""
        found = self._channel.basic_get(queue)
        if found is None:
            return None
        said = found.properties
        return Delivery(
            tag=found.delivery_info["delivery_tag"],
            body=found.body.encode() if isinstance(found.body, str) else bytes(found.body),
            content_type=said.get("content_type"),
            headers=said.get("application_headers") or {},
            priority=said.get("priority"),
        )

    def _wait(self) -> None:
        """See ``Link._wait``."""
        self._channel.basic_qos(0, 0, False)
