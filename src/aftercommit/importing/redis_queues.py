"""Reads queues in Redis, and takes messages so that neither workers nor a second run have them.

A message is taken by one script: it goes from the queue of the library to a hash of ours, or it
is there no more because a worker was faster. It is removed from the hash when its job is
committed. So it is in one place at each moment, and what a run that died has left is in the hash.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple

import redis

from aftercommit.errors import ConfigurationError
from aftercommit.importing.source import Source
from aftercommit.importing.values import Message, Place
from aftercommit.printable import without_passwords

OURS = "aftercommit:import"  # how the names of our hashes begin


class Spot(NamedTuple):
    """Where a message is, and what there is of it."""

    queue: str  # the key of a list, a set or a hash
    field: str  # its name there
    kept: bytes  # what our hash keeps


class RedisSource(Source):
    """The queues of one library in one Redis."""

    usual_queue: ClassVar[str]
    usual_prefix: ClassVar[str] = ""
    may_come_again = True

    def __init__(self, place: Place) -> None:
        try:
            self._redis: Any = redis.Redis.from_url(place.url)
            self._redis.ping()
        except (redis.RedisError, ValueError) as error:
            raise ConfigurationError(
                f"The Redis at {place.url} cannot be read: {without_passwords(str(error))}. "
                "Nothing was imported."
            ) from error
        self._prefix = self.usual_prefix if place.prefix is None else place.prefix
        self._queues = tuple(place.queues or (self.usual_queue,))
        self._held = place.held
        self._left = self.places()  # that were not read to their end
        self._passed = 0  # messages of the first of these that were read, and are there still
        self._before: Iterator[Message] | None = None

    def taken(self, limit: int) -> list[Message]:
        """See ``Source.taken``."""
        if self._before is None:
            self._before = self._taken_before()
        return [one for _number, one in zip(range(limit), self._before, strict=False)]

    def read(self, limit: int) -> list[Message]:
        """See ``Source.read``.

        Places are counted from the end at which workers take. What they take meanwhile may hide
        as many messages from this run; the next one finds these.
        """
        while self._left:
            queue = self._left[0]
            if found := self.part(queue, self._passed, limit):
                self._passed += len(found)
                return [self.message(one) for one in found]
            del self._left[0]
            self._passed = 0
        return []

    def take(self, messages: Sequence[Message]) -> list[Message]:
        """See ``Source.take``."""
        mine = [one for one in messages if self._take(one.raw)]
        self._passed -= len(messages)
        return mine

    def remove(self, messages: Sequence[Message]) -> None:
        """See ``Source.remove``."""
        for one in messages:
            self.forget(one.raw)
            self._redis.hdel(_hash(self.name, one.raw.queue), one.raw.field)

    def close(self) -> None:
        """See ``Source.close``."""
        self._redis.close()

    @abstractmethod
    def places(self) -> list[str]:
        """Return the keys of the queues, with those of delayed messages."""

    def has_read(self, queue: str) -> bool:
        """Return whether a run like this one may have taken messages from this key."""
        return queue in self.places()

    @abstractmethod
    def part(self, queue: str, first: int, limit: int) -> list[Spot]:
        """Return so many messages of a queue after the ``first`` ones, the oldest first."""

    @abstractmethod
    def message(self, spot: Spot) -> Message:
        """Return what a message says; ``raw`` is the spot."""

    @abstractmethod
    def script(self, queue: str) -> tuple[str, list[str]]:
        """Return what takes a message of a queue, and the keys that it needs beside two.

        ``KEYS`` are the queue, our hash, and these; ``ARGV`` what the spot says: its field, and
        what is kept. It returns 0 if the message is there no more.
        """

    def forget(self, spot: Spot) -> None:
        """Remove what the library keeps of a message beside its queue."""

    def _take(self, spot: Spot) -> bool:
        script, others = self.script(spot.queue)
        keys = [spot.queue, _hash(self.name, spot.queue), *others]
        return bool(self._redis.eval(script, len(keys), *keys, spot.field, spot.kept))

    def _taken_before(self) -> Iterator[Message]:
        begin = _hash(self.name, "")
        for key in list(self._redis.scan_iter(f"{begin}*", count=1000)):
            queue = key.decode().removeprefix(begin)
            if self.has_read(queue):
                for field, kept in list(self._redis.hscan_iter(key)):
                    yield self.message(Spot(queue, field.decode(), kept))


def _hash(name: str, queue: str) -> str:
    return f"{OURS}:{name}:{queue}"
