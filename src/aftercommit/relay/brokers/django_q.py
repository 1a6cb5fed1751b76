"""django-q2: every task is packed, signed, and passed to its broker's ``enqueue``."""

import logging
import threading
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

from django_q.brokers import Broker as QBroker
from django_q.brokers import get_broker
from django_q.brokers.orm import ORM
from django_q.signals import pre_enqueue

from aftercommit.relay.brokers.base import Away, Broker, Message, Outbox, publish_or_keep
from aftercommit.relay.brokers.logins import Login, redis_login
from aftercommit.relay.brokers.reachable import is_reachable, redis_servers
from aftercommit.relay.brokers.servers import bounded, not_kept, same_redis

logger = logging.getLogger("aftercommit")

AWAY: tuple[type[BaseException], ...] = (OSError,)
try:
    import redis.exceptions

    AWAY += (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
except ImportError:
    logger.debug("django-q2 without Redis")
_next = threading.local()  # the task that is packed next: its package is never unpacked here


def _remember(task: dict[str, Any], **_: Any) -> None:
    _next.task = task


class DjangoQ(Broker):
    """django-q2, with any broker but the ORM broker, which stores tasks in a database itself."""

    name = "django_q"

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in ``enqueue`` of the broker's class."""
        kind = type(get_broker())
        if not issubclass(kind, ORM):
            pre_enqueue.connect(_remember, dispatch_uid="aftercommit.relay.publish")
            kind.enqueue = _asking(outbox, kind.enqueue)

    def publish(self, content: dict[str, Any]) -> None:
        """Put the signed package into the broker's list."""
        broker = get_broker()
        broker.list_key = content["key"]
        if hasattr(broker.connection, "connection_pool"):
            broker.connection = bounded(broker.connection)
        try:
            type(broker).enqueue.__wrapped__(broker, content["package"])
        except AWAY as error:
            raise Away(str(error)) from error

    def logins(self) -> list[Login]:
        """Return the server of Q_CLUSTER, if it is Redis."""
        return redis_login(get_broker().connection)


def _asking(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: QBroker, package: str) -> Any:
        def keep(using: str) -> str:
            task = _next.task
            name = task["func"] if isinstance(task["func"], str) else task["func"].__qualname__
            content = {"key": self.list_key, "package": package}
            message = Message(
                broker="django_q", message_id=task["id"], name=name, content=content
            )
            outbox.keep(message, using=using)
            return str(task["id"])

        return publish_or_keep(
            outbox,
            "django_q",
            when=None,
            away=AWAY,
            publish=lambda: original(self, package),
            keep=keep,
            fault=lambda: _fault(self),
            there=lambda: _is_there(self.connection),
        )

    return enqueue


def _is_there(connection: Any) -> bool:
    pool = getattr(connection, "connection_pool", None)
    return pool is None or is_reachable(pool, lambda: redis_servers(pool))


def _fault(broker: QBroker) -> str | None:
    """Return why a message cannot be kept. Brokers other than Redis have one server each."""
    own = _configured()
    if not hasattr(broker.connection, "connection_pool"):
        return None
    if same_redis(broker.connection, own.connection):
        return None
    return not_kept(
        "django-q2",
        "A broker was given whose Redis server is not the one of Q_CLUSTER.",
        "give no broker, or one that get_broker() returns",
    )


@lru_cache
def _configured() -> QBroker:
    return get_broker()
