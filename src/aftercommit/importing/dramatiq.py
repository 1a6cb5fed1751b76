"""Imports the messages of Dramatiq that wait in Redis, as its JSONEncoder writes them."""

from collections import Counter

from aftercommit.importing.dramatiq_calls import DELAYED, message_of
from aftercommit.importing.redis_queues import RedisSource, Spot
from aftercommit.importing.values import Message

TAKE = """
if redis.call('{remove}', KEYS[1], {number}ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
"""
TAKE_QUEUED = TAKE.format(remove="LREM", number="1, ")
TAKE_HELD = TAKE.format(remove="SREM", number="")


class Dramatiq(RedisSource):
    """A queue is a list of ids and a hash of messages; a worker has a set of those it holds."""

    name = "dramatiq"
    usual_queue = "default"
    usual_prefix = "dramatiq"

    def places(self) -> list[str]:
        """See ``RedisSource.places``."""
        names = [name for one in self._queues for name in (one, f"{one}{DELAYED}")]
        queued = [f"{self._prefix}:{one}" for one in names]
        return [*queued, *(self._sets() if self._held else [])]

    def has_read(self, queue: str) -> bool:
        """See ``RedisSource.has_read``; a worker's set is gone when it is empty."""
        return queue in self.places() or self._is_ours(queue)

    def part(self, queue: str, first: int, limit: int) -> list[Spot]:
        """See ``RedisSource.part``."""
        if self._is_held(queue):
            ids = sorted(self._redis.smembers(queue))[first : first + limit]
        else:
            ids = self._redis.lrange(queue, first, first + limit - 1)
        kept = self._redis.hmget(self._messages(queue), ids) if ids else []
        pairs = zip(ids, kept, strict=True)
        return [Spot(queue, one.decode(), text or b"") for one, text in pairs]

    def message(self, spot: Spot) -> Message:
        """See ``RedisSource.message``."""
        return message_of(spot.kept, key=spot.field, raw=spot)

    def script(self, queue: str) -> tuple[str, list[str]]:
        """See ``RedisSource.script``."""
        return (TAKE_HELD if self._is_held(queue) else TAKE_QUEUED), [self._messages(queue)]

    def elsewhere(self) -> Counter[str]:
        """Return how many messages workers hold."""
        held = 0 if self._held else sum(map(self._redis.scard, self._sets()))
        return Counter({"workers hold them; when none runs, --held takes them": held})

    def _sets(self) -> list[str]:
        """Return the keys of what workers hold: they have ids that nobody else knows."""
        found = self._redis.scan_iter(f"{self._prefix}:__acks__.*", count=1000)
        return sorted(one.decode() for one in found if self._is_ours(one.decode()))

    def _is_ours(self, queue: str) -> bool:
        ends = tuple(f".{one}{end}" for one in self._queues for end in ("", DELAYED))
        return self._is_held(queue) and queue.endswith(ends)

    def _is_held(self, queue: str) -> bool:
        return queue.startswith(f"{self._prefix}:__acks__.")

    def _messages(self, queue: str) -> str:
        if not self._is_held(queue):
            return f"{queue}.msgs"
        # Behind the id of the worker, which has no dot.
        name = queue.removeprefix(f"{self._prefix}:__acks__.").partition(".")[2]
        return f"{self._prefix}:{name}.msgs"
