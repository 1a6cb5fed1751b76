"""Reads queues in RabbitMQ: a message is acknowledged when its job is committed.

RabbitMQ gives a message that was read, and not acknowledged, to nobody else. It puts it back when
the connection ends, in whichever way, so what a run that died has left is in its queue again. The
next run reads it, and the record of the inbox says which of these are jobs already.

A message has no name of its own in RabbitMQ, so its key is a digest of what its sender has
written. Where two messages are the same to the last byte, the id of the task included, a batch
has one of them only; its key is forgotten when it is acknowledged, and then the other one comes.
"""

from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from typing import ClassVar

from aftercommit.errors import ConfigurationError
from aftercommit.importing.rabbitmq.link import Delivery, Link
from aftercommit.importing.source import Source
from aftercommit.importing.values import Message, Place

MOST_HELD = 50_000  # messages at once; RabbitMQ keeps a note of each in its memory
BY_BROKER = "x-"  # how headers begin that RabbitMQ changes when a message comes again


class RabbitMQSource(Source):
    """The queues of one library in one virtual host. Nothing else there is read or changed."""

    usual_queue: ClassVar[str]
    link: ClassVar[type[Link]]
    may_come_again = True
    keys_come_again = True

    def __init__(self, place: Place) -> None:
        if place.held or place.prefix is not None:
            raise ConfigurationError(
                f"{self.name} in RabbitMQ takes neither --held nor --prefix: what a worker holds "
                "is in its queue again as soon as the worker ends."
            )
        self._url = str(place.url)
        self._link = self._connected()
        self._queues = tuple(place.queues or (self.usual_queue,))
        self._held: set[int] = set()  # tags of messages that were read, and are there still
        self._equal: deque[Message] = deque()  # to messages of a batch before
        try:
            with self._asking():
                lengths = {one: self._link.length(one) for one in self.places()}
            self._check(lengths)
        except ConfigurationError:
            self._link.close()
            raise
        self._left = [one for one, length in lengths.items() if length is not None]

    def read(self, limit: int) -> list[Message]:
        """See ``Source.read``; no two of them have the same key."""
        found: dict[str, Message] = {}
        waiting, self._equal = self._equal, deque()
        with self._asking():
            while len(found) < limit and len(self._equal) < limit:
                one = waiting.popleft() if waiting else self._next()
                if one is None:
                    break
                if one.key in found:
                    self._equal.append(one)
                else:
                    found[one.key] = one
        self._equal.extend(waiting)
        return list(found.values())

    def take(self, messages: Sequence[Message]) -> list[Message]:
        """See ``Source.take``; nobody else gets what was read."""
        return list(messages)

    def remove(self, messages: Sequence[Message]) -> None:
        """See ``Source.remove``."""
        tags = [one.raw for one in messages]
        with self._asking():
            self._link.acknowledge(tags)
        self._held.difference_update(tags)

    def elsewhere(self) -> Counter[str]:
        """Return what is behind as many messages as are held at once."""
        if len(self._held) < MOST_HELD:
            return Counter()
        with self._asking():
            behind = sum(self._link.length(one) or 0 for one in self._left)
        return Counter({f"{MOST_HELD:,} before them are held, and left in the end": behind})

    def close(self) -> None:
        """See ``Source.close``; what is left is in its queue again."""
        try:
            if self._held:
                with self._asking():
                    self._link.put_back(sorted(self._held))
        finally:
            self._link.close()

    def places(self) -> list[str]:
        """Return the names of the queues, with those of delayed messages."""
        return list(self._queues)

    @abstractmethod
    def message(self, key: str, delivery: Delivery) -> Message:
        """Return what a message says; ``raw`` is its tag."""

    def _next(self) -> Message | None:
        while self._left and len(self._held) < MOST_HELD:
            if found := self._link.get(self._left[0]):
                self._held.add(found.tag)
                return self.message(_key(self._left[0], found), found)
            del self._left[0]
        return None

    def _connected(self) -> Link:
        try:
            return self.link(self._url)
        except Exception as error:  # of a driver, for what is no URL as well
            raise ConfigurationError(
                f"The RabbitMQ at {self._url} cannot be read: {_words(error)}. Nothing was "
                "imported."
            ) from error

    def _check(self, lengths: dict[str, int | None]) -> None:
        missing = [one for one in self._queues if lengths[one] is None]
        if missing:
            raise ConfigurationError(
                f"There is no queue {missing[0]!r} in the RabbitMQ at {self._url}. Nothing was "
                "imported.\n"
                "Fix: name each queue by --queue, and the virtual host behind the address."
            )

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except self._link.errors as error:
            raise ConfigurationError(
                f"The RabbitMQ at {self._url} has refused, or is gone: {_words(error)}.\n"
                "What was imported before is committed. All other messages are in their queues, "
                "or will be when RabbitMQ has noticed.\n"
                "Fix: run the import again."
            ) from error


def _key(queue: str, delivery: Delivery) -> str:
    """Return a digest of what the sender of a message has written."""
    names = sorted(one for one in delivery.headers if not one.startswith(BY_BROKER))
    headers = [(one, delivery.headers[one]) for one in names]
    digest = sha256(repr((queue, delivery.content_type, headers)).encode())
    digest.update(delivery.body)
    return digest.hexdigest()


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
