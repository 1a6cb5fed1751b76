"""What Celery and Dramatiq queue in RabbitMQ, in queues of this run, and what is imported."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import dramatiq
import pika
from celery import Celery
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from aftercommit import task
from aftercommit.importing.values import Place
from aftercommit.models import Job
from tests.brokers.addresses import broker_url, queue_name

HERE = f"{__name__}.brought"
URL = broker_url("rabbitmq")
ENDS = ("", ".DQ", ".XQ")  # of the names of the queues that Dramatiq declares for one


@task
def brought(first, second="none"):
    """Be called by messages of others."""
    return f"{first} {second}"


class Sender:
    """Sends by one library, and looks at its queues by a channel of its own."""

    name = ""
    ends = ("",)

    def __init__(self):
        self.queue = queue_name(f"import_{self.name}")
        self.words = ("--queue", self.queue)
        self.place = Place(url=URL, queues=(self.queue,))
        self.connection = pika.BlockingConnection(pika.URLParameters(URL))
        self.channel = self.connection.channel()
        self.remove()
        self.declare()

    def declare(self):
        """Declare the queues as this library does."""

    def length(self):
        """Return how many messages nobody holds."""
        lengths = [
            self.channel.queue_declare(f"{self.queue}{end}", passive=True) for end in self.ends
        ]
        return sum(one.method.message_count for one in lengths)

    def there(self):
        """Return what is in the queues; it stays there."""
        channel = self.connection.channel()
        found = []
        for end in self.ends:
            while (got := channel.basic_get(f"{self.queue}{end}"))[0] is not None:
                found.append((got[2], got[1].headers, got[1].content_type, got[1].priority))
                last = got[0].delivery_tag
        if found:
            channel.basic_nack(last, multiple=True, requeue=True)
        channel.basic_qos()
        channel.close()
        return found

    def remove(self):
        """Delete the queues."""
        for end in ENDS:
            self.channel.queue_delete(f"{self.queue}{end}")

    def close(self):
        """Leave nothing behind."""
        self.remove()
        self.connection.close()


class AsCelery(Sender):
    """Sends by Celery."""

    name = "celery"
    queue_type = "classic"

    def __init__(self):
        self.app = Celery("importing", broker=URL, set_as_current=False)
        super().__init__()

    def declare(self):
        self.app.conf.update(
            task_default_queue=self.queue,
            task_default_queue_type=self.queue_type,
            task_queue_max_priority=None if self.queue_type == "quorum" else 9,
            task_ignore_result=True,
            broker_transport_options={"confirm_publish": True},
            task_serializer="json",
        )
        with self.app.connection_for_write() as connection:
            self.app.amqp.queues[self.queue](connection.default_channel).declare()

    def send(self, *args, path=HERE, at=None, **options):
        self.app.send_task(path, args=args, eta=at, **options)

    def close(self):
        super().close()
        self.app.close()

    def remove(self):
        super().remove()
        self.channel.exchange_delete(self.queue)


class AsCeleryInQuorum(AsCelery):
    """Sends to a quorum queue, which counts in a header how often a message comes again."""

    queue_type = "quorum"


class AsDramatiq(Sender):
    """Sends by Dramatiq."""

    name = "dramatiq"
    ends = ("", ".DQ")

    def declare(self):
        self.broker = RabbitmqBroker(url=URL, max_priority=9, confirm_delivery=True)
        self.broker.declare_queue(self.queue, ensure=True)

    def send(self, *args, path=HERE, at=None, **options):
        message = dramatiq.Message(self.queue, path, args, {}, options)
        span = None if at is None else (at - datetime.now(UTC)) / timedelta(milliseconds=1)
        self.broker.enqueue(message, delay=None if span is None else int(span))

    def close(self):
        self.broker.close()
        super().close()


SENDERS = {one.__name__: one for one in (AsCelery, AsCeleryInQuorum, AsDramatiq)}


def imported():
    """Return how many jobs there are of each first argument."""
    return Counter(one.args[0] for one in Job.objects.all())
