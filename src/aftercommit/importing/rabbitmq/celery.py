"""Imports the messages of Celery's protocol 2 that wait in RabbitMQ."""

from collections import Counter
from itertools import count, takewhile

from aftercommit.importing.celery_calls import message_of
from aftercommit.importing.rabbitmq.by_kombu import KombuLink
from aftercommit.importing.rabbitmq.link import Delivery
from aftercommit.importing.rabbitmq.source import RabbitMQSource
from aftercommit.importing.values import Message

DELAYED = "celery_delayed_"  # and a number from 0: where calls with an eta for quorum queues wait


class Celery(RabbitMQSource):
    """A message with an eta is in its queue, or held by the worker that waits for it."""

    name = "celery"
    usual_queue = "celery"
    link = KombuLink

    def message(self, key: str, delivery: Delivery) -> Message:
        """See ``RabbitMQSource.message``."""
        return message_of(
            {
                "headers": dict(delivery.headers),
                "content-type": delivery.content_type,
                "body": delivery.body,
            },
            key=key,
            raw=delivery.tag,
            priority=delivery.priority or None,  # kombu writes 0 where none was given
        )

    def elsewhere(self) -> Counter[str]:
        """Return also what Celery has handed to RabbitMQ until it is due."""
        with self._asking():
            lengths = (self._link.length(f"{DELAYED}{number}") for number in count())
            delayed = sum(takewhile(lambda one: one is not None, lengths))  # type: ignore[arg-type]
        why = f"they wait in {DELAYED}* of this virtual host until they are due"
        return super().elsewhere() + Counter({why: delayed})
