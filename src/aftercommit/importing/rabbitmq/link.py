"""What an importer asks RabbitMQ for, whichever driver is there."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple


class Delivery(NamedTuple):
    """A message that RabbitMQ holds for this connection, until it is acknowledged or put back."""

    tag: int  # names it on this connection
    body: bytes
    content_type: str | None
    headers: Mapping[str, Any]
    priority: int | None


class Link(ABC):
    """A connection with one channel. Whatever its methods raise is one of ``errors``.

    The drivers call what is the same on the wire by the same names.
    """

    errors: tuple[type[Exception], ...]
    _connection: Any
    _channel: Any

    @abstractmethod
    def __init__(self, url: str) -> None:
        """Connect; raises whatever the driver does."""

    @abstractmethod
    def length(self, queue: str) -> int | None:
        """Return how many messages of a queue nobody holds; None: there is no such queue."""

    @abstractmethod
    def get(self, queue: str) -> Delivery | None:
        """Return the next message of a queue, which is then held; None: there is none."""

    @abstractmethod
    def _wait(self) -> None:
        """Return when RabbitMQ has read what was sent: it answers the one method called here.

        A channel's methods are read one after the other.
        """

    def acknowledge(self, tags: Iterable[int]) -> None:
        """Remove messages; returns when RabbitMQ has read that."""
        for tag in tags:
            self._channel.basic_ack(tag)
        self._wait()

    def put_back(self, tags: Iterable[int]) -> None:
        """Let others have messages again; returns when RabbitMQ has read that."""
        for tag in tags:
            self._channel.basic_reject(tag, requeue=True)
        self._wait()

    def close(self) -> None:
        """Close the connection, in any state. What it held is in its queues again."""
        with suppress(*self.errors):
            self._connection.close()
