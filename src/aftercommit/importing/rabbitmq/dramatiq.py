"""Imports the messages of Dramatiq that wait in RabbitMQ, as its JSONEncoder writes them."""

from collections import Counter

from aftercommit.importing.dramatiq_calls import DELAYED, message_of
from aftercommit.importing.rabbitmq.by_pika import PikaLink
from aftercommit.importing.rabbitmq.link import Delivery
from aftercommit.importing.rabbitmq.source import RabbitMQSource
from aftercommit.importing.values import Message

DEAD = ".XQ"  # the end of the name of a queue of dead letters


class Dramatiq(RabbitMQSource):
    """Delayed messages are in a queue of their own until a worker holds them."""

    name = "dramatiq"
    usual_queue = "default"
    link = PikaLink

    def places(self) -> list[str]:
        """See ``RabbitMQSource.places``."""
        return [name for one in self._queues for name in (one, f"{one}{DELAYED}")]

    def message(self, key: str, delivery: Delivery) -> Message:
        """See ``RabbitMQSource.message``."""
        return message_of(
            delivery.body, key=key, raw=delivery.tag, priority=delivery.priority or None
        )

    def elsewhere(self) -> Counter[str]:
        """Return also how many dead letters there are."""
        with self._asking():
            dead = sum(self._link.length(f"{one}{DEAD}") or 0 for one in self._queues)
        return super().elsewhere() + Counter({"they are dead letters": dead})
