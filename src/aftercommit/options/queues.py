"""The names of queues, and of those that hold messages for brokers."""

import reprlib
from typing import Any

from aftercommit.errors import ConfigurationError

LONGEST_NAME = 100  # of queues and backends, as in the columns
QUEUE_PREFIX = "relay."  # of the queues whose jobs are messages for a broker
IN_ORDER = ".in_order"


def queue_of(name: str) -> str:
    """Return the queue of a broker's messages."""
    return QUEUE_PREFIX + name


def queue_in_order(name: str) -> str:
    """Return the queue of those of its messages that have an ordering key."""
    return f"{QUEUE_PREFIX}{name}{IN_ORDER}"


def is_in_order(queue: str) -> bool:
    """Return whether the messages of a queue have ordering keys."""
    return queue.endswith(IN_ORDER) and queue.startswith(QUEUE_PREFIX)


def queues_of(name: str) -> tuple[str, str]:
    """Return both queues of a broker's messages."""
    return queue_of(name), queue_in_order(name)


def slots_key(queue: str) -> str:
    """Return the key under which jobs of a queue take places; both of a broker share them."""
    return f"queue:{queue.removesuffix(IN_ORDER) if is_in_order(queue) else queue}"


def is_queue_name(value: object) -> bool:
    """Return whether a queue may be called like this."""
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


def check_queues(value: Any, *, where: str) -> None:
    """Refuse what is not a list of queues: a bare text would be read letter by letter."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(
            f"{where}: expected a list of queues, got {reprlib.repr(value)}."
        )
    for name in value:
        if not is_queue_name(name):
            raise ConfigurationError(
                f"{where}: a queue's name has 1 to {LONGEST_NAME} printable characters, "
                f"got {reprlib.repr(name)}."
            )
