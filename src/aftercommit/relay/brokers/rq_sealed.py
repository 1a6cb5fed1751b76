"""RQ's jobs as bytes: what the relay enqueues without loading a pickle."""

from typing import Any

from rq import Queue
from rq.job import Job

from aftercommit.relay.brokers.base import as_bytes

# Fields that RQ needs to know for enqueuing; it never evaluates them. The others are passed
# on to Redis as they are.
READ = {
    *("created_at", "enqueued_at", "status", "origin", "timeout", "ttl"),
    *("dependency_id", "dependency_ids", "allow_dependency_failures", "enqueue_at_front"),
    *("rate_limit_key", "rate_limit_concurrency"),
}
OF_A_RUN = {"result", "exc_info"}  # a job that was not enqueued has none


class SealingSerializer:
    """Never unpickles: what ``loads`` is given is kept, and ``dumps`` returns it unchanged.

    RQ loads fields of the job, and of the jobs in Redis that it reads while it enqueues.
    """

    class Bytes(dict[str, bool]):
        """Bytes where RQ expects ``meta``; not empty, because RQ would not store it then."""

        def __init__(self, stored: bytes) -> None:
            super().__init__(sealed=True)
            self.stored = stored

    @classmethod
    def loads(cls, data: bytes) -> Any:
        """Return a stand-in for what the bytes mean."""
        return cls.Bytes(data)

    @classmethod
    def dumps(cls, value: Any) -> bytes:
        """Return the bytes that were given to ``loads``."""
        if not isinstance(value, cls.Bytes):
            raise TypeError(f"The relay does not serialize objects, got {type(value)}.")
        return value.stored


class Sealed(Job):
    """A job whose function and arguments stay bytes: a pickle is never loaded here."""

    _opaque: dict[str, bytes] | None = None  # None: RQ has read it from Redis

    def seal(self, raw: dict[str, bytes]) -> None:
        """Set the fields that ``to_dict`` of the real job has returned."""
        self._opaque = {name: value for name, value in raw.items() if name not in READ | OF_A_RUN}
        self.restore({"data": b"", **{name: raw[name] for name in READ & raw.keys()}})

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the fields that are stored in Redis."""
        if self._opaque is not None:
            args, kwargs = (), {"include_meta": False, "include_result": False}
        return {**super().to_dict(*args, **kwargs), **(self._opaque or {})}


def sealed(content: dict[str, Any], queue: Queue) -> Sealed:
    """Return the job of a stored message."""
    job = Sealed(content["id"], connection=queue.connection, serializer=SealingSerializer)
    job.seal({name: _bytes(value) for name, value in content["job"].items()})
    return job


def _bytes(stored: Any) -> bytes:
    return stored.encode() if isinstance(stored, str) else as_bytes(stored)
