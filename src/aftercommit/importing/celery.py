"""Imports the messages of Celery's protocol 2 that wait in Redis, as kombu writes them."""

import json
from collections import Counter
from hashlib import sha256
from typing import Any

from aftercommit.importing.celery_calls import message_of, object_of
from aftercommit.importing.redis_queues import RedisSource, Spot
from aftercommit.importing.values import Message

BY_PRIORITY = ("", "\x06\x163", "\x06\x166", "\x06\x169")  # ends of the keys of one queue
UNACKED, INDEX = "unacked", "unacked_index"
PARTS = 3  # of what is kept in unacked: the message, its exchange, its routing key
LONGEST_TAG = 255  # characters, as in the column of the inbox; kombu's have 36
TAKE_QUEUED = """
if redis.call('LREM', KEYS[1], -1, ARGV[2]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""
TAKE_HELD = """
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""


class Celery(RedisSource):
    """A worker holds what it runs, and what has an eta, in ``unacked``, until it ends."""

    name = "celery"
    usual_queue = "celery"

    def places(self) -> list[str]:
        """See ``RedisSource.places``: a list for each priority."""
        names = [f"{self._prefix}{one}{end}" for one in self._queues for end in BY_PRIORITY]
        return [*names, *([f"{self._prefix}{UNACKED}"] if self._held else [])]

    def has_read(self, queue: str) -> bool:
        """See ``RedisSource.has_read``."""
        return queue in self.places() or self._is_held(queue)

    def part(self, queue: str, first: int, limit: int) -> list[Spot]:
        """See ``RedisSource.part``: the oldest are at the right end."""
        if not self._is_held(queue):
            found = self._redis.lrange(queue, -first - limit, -first - 1)
            return [Spot(queue, _tag(one), one) for one in reversed(found)]
        tags = self._redis.zrange(f"{self._prefix}{INDEX}", first, first + limit - 1)
        kept = self._redis.hmget(queue, tags) if tags else []
        return [
            Spot(queue, tag.decode(), one or b"") for tag, one in zip(tags, kept, strict=True)
        ]

    def message(self, spot: Spot) -> Message:
        """See ``RedisSource.message``."""
        envelope, routing_key = _envelope(spot.kept)
        unfit = None
        if self._is_held(spot.queue) and routing_key not in self._queues:
            unfit = f"it is of the queue {routing_key!r}: name it by --queue"
        return message_of(envelope, key=spot.field, raw=spot, unfit=unfit)

    def script(self, queue: str) -> tuple[str, list[str]]:
        """See ``RedisSource.script``."""
        if self._is_held(queue):
            return TAKE_HELD, [f"{self._prefix}{INDEX}"]
        return TAKE_QUEUED, []

    def elsewhere(self) -> Counter[str]:
        """Return how many messages workers hold."""
        held = 0 if self._held else self._redis.hlen(f"{self._prefix}{UNACKED}")
        return Counter({"workers hold them; when none runs, --held takes them": held})

    def _is_held(self, queue: str) -> bool:
        return queue == f"{self._prefix}{UNACKED}"


def _envelope(kept: bytes) -> tuple[dict[str, Any], Any]:
    """Return a message without its body read, and its routing key if a worker holds it."""
    try:
        found = json.loads(kept)
    except (ValueError, RecursionError):
        return {}, None
    if isinstance(found, list) and len(found) == PARTS:  # as unacked has it
        return object_of(found[0]), found[2]
    return object_of(found), None


def _tag(kept: bytes) -> str:
    """Return the tag that each message has of its own; the id of a task comes again."""
    tag = object_of(_envelope(kept)[0].get("properties")).get("delivery_tag")
    return (
        tag if isinstance(tag, str) and 0 < len(tag) <= LONGEST_TAG else sha256(kept).hexdigest()
    )
