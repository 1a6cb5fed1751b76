"""Imports the jobs that wait in RQ's queues, if their queue has the JSON serializer."""

import json
import zlib
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.importing.redis_queues import RedisSource, Spot
from aftercommit.importing.values import Message, Place

LARGEST = 64 * 1024 * 1024  # bytes of a call, unpacked
PARTS = 4  # of a call: the function, an instance, arguments, those by name
PICKLE = b"\x80"  # how pickled bytes begin
READ = (
    *("data", "created_at", "enqueued_at", "success_callback_name"),
    *("failure_callback_name", "stopped_callback_name", "repeats_left", "group_id"),
)
TAKE_QUEUED = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""
TAKE_SCHEDULED = """
if redis.call('ZREM', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
return 1
"""


class RQ(RedisSource):
    """A queue has ids; what a job says stays under a key of its own until its job is here."""

    name = "rq"
    usual_queue = "default"

    def __init__(self, place: Place) -> None:
        if place.held or place.prefix is not None:
            raise ConfigurationError(
                "rq takes neither --held nor --prefix: its keys begin with 'rq:', and a job that "
                "a worker has begun is for RQ to end."
            )
        super().__init__(place)

    def places(self) -> list[str]:
        """See ``RedisSource.places``."""
        return [f"rq:{kind}:{one}" for one in self._queues for kind in ("queue", "scheduled")]

    def part(self, queue: str, first: int, limit: int) -> list[Spot]:
        """See ``RedisSource.part``; of a scheduled job its moment is kept."""
        last = first + limit - 1
        if not _is_scheduled(queue):
            return [
                Spot(queue, one.decode(), b"") for one in self._redis.lrange(queue, first, last)
            ]
        found = self._redis.zrange(queue, first, last, withscores=True)
        return [Spot(queue, one.decode(), b"%d" % moment) for one, moment in found]

    def message(self, spot: Spot) -> Message:
        """See ``RedisSource.message``."""
        found = self._redis.hmget(_key(spot.field), READ)
        said = dict(zip(READ, found, strict=True))
        call, unfit = _call(said["data"])
        unfit = unfit or self._unfit(spot.field, said)
        name, _instance, args, kwargs = call or ("(unknown)", None, [], {})
        since = said["enqueued_at"] or said["created_at"] or b""
        return Message(
            # An id may be used for many jobs, one after the other.
            key=f"{spot.field}@{since.decode()}"[:255],
            task=name,
            args=list(args),
            kwargs=dict(kwargs),
            run_after=datetime.fromtimestamp(int(spot.kept), UTC) if spot.kept else None,
            unfit=unfit,
            raw=spot,
        )

    def script(self, queue: str) -> tuple[str, list[str]]:
        """See ``RedisSource.script``."""
        return (TAKE_SCHEDULED if _is_scheduled(queue) else TAKE_QUEUED), []

    def forget(self, spot: Spot) -> None:
        """See ``RedisSource.forget``."""
        self._redis.delete(_key(spot.field))

    def elsewhere(self) -> Counter[str]:
        """Return how many jobs workers have begun, or wait for others."""
        waiting = sum(self._redis.zcard(f"rq:deferred:{one}") for one in self._queues)
        running = sum(self._redis.zcard(f"rq:wip:{one}") for one in self._queues)
        return Counter({"they wait for other jobs": waiting, "workers hold them": running})

    def _unfit(self, job_id: str, said: dict[str, Any]) -> str | None:
        if any(said[name] for name in READ if name.endswith("_callback_name")):
            return "it has a callback"
        if said["repeats_left"] not in (None, b"", b"0"):
            return "it repeats: declare every= on the task"
        if said["group_id"]:
            return "it is of a group"
        if self._redis.exists(f"{_key(job_id)}:dependents"):
            return "another job waits for it"
        return None


def _is_scheduled(queue: str) -> bool:
    return queue.startswith("rq:scheduled:")


def _key(job_id: str) -> str:
    return f"rq:job:{job_id}"


def _call(data: bytes | None) -> tuple[tuple[Any, ...] | None, str | None]:
    """Return the four parts of a call, or why it cannot be read. Pickle is never loaded."""
    if data is None:
        return None, "its data are gone"
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, LARGEST)
    except zlib.error:
        text = data
    if unpacker.unconsumed_tail:
        return None, f"it is larger than {LARGEST:,} bytes"
    if text.startswith(PICKLE):
        return None, "it is pickled, which is never loaded: let RQ's workers run it"
    try:
        name, instance, args, kwargs = json.loads(text)
        call = (str(name), instance, list(args), dict(kwargs))
    except (TypeError, ValueError):
        return None, "it is no JSON as RQ's JSONSerializer writes it"
    return call, None if instance is None else "it is the method of an object"
