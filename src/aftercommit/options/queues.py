"""The names of queues, and of those that hold messages for brokers."""

import reprlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import check_counts, shown

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
    """Return the key under which jobs of a queue take slots; both of a broker share them."""
    return f"queue:{both_of(queue)[0]}"


def both_of(queue: str) -> tuple[str, ...]:
    """Return both queues of a broker if this is one of them, else the queue alone."""
    if queue.startswith(QUEUE_PREFIX):
        return queues_of(queue.removeprefix(QUEUE_PREFIX).removesuffix(IN_ORDER))
    return (queue,)


def is_stored_name(value: object) -> bool:
    """Return whether the column may hold this name of a queue.

    Version 0.1 accepted spaces at the ends: what looks for jobs or moves them away still does.
    """
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_NAME and value.isprintable()


def is_queue_name(value: object) -> bool:
    """Return whether a queue may be called like this.

    MySQL and MariaDB do not compare spaces at the end: it would be another queue there.
    """
    return is_stored_name(value) and value == str(value).strip()


def check_queues(value: Any, *, where: str) -> None:
    """Refuse what is not a list of queues: a bare text would be read letter by letter."""
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(
            f"{where}: expected a list of queues, got {reprlib.repr(value)}."
        )
    for name in value:
        if not is_queue_name(name):
            raise ConfigurationError(
                f"{where}: a queue's name has 1 to {LONGEST_NAME} printable characters and no "
                f"space at its ends, got {reprlib.repr(name)}."
            )


def limits_in(name: str, value: Any) -> Mapping[str, int]:
    """Return the limits of queues; raises ``ConfigurationError`` for what is none."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(
            f"{name}: expected a dict of queues and numbers, got {shown(value)}."
        )
    check_queues(list(value), where=name)
    check_counts(**{f"{name}[{queue!r}]": most for queue, most in value.items()})
    return MappingProxyType(
        {one: most for queue, most in value.items() for one in both_of(queue)}
    )
