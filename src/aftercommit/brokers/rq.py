"""RQ and django-rq: every way to enqueue ends in one of three methods of ``Queue``."""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from functools import wraps
from typing import Any

from django.conf import settings
from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, TimeoutError
from rq import Queue
from rq.job import Job, JobStatus

from aftercommit.brokers.base import Away, Broker, Keeper, Message, TooEarly, as_bytes, as_json
from aftercommit.errors import ConfigurationError

try:
    import django_rq
    from django_rq.queues import DjangoRQ
except ImportError:  # RQ alone
    django_rq = None

logger = logging.getLogger("aftercommit")

AWAY = (BusyLoadingError, ConnectionError, OutOfMemoryError, TimeoutError)
SECONDS_TO_ANSWER = 30


class RQ(Broker):
    """RQ, by itself (``{"rq": {"url": "redis://…"}}``) or with django-rq's ``RQ_QUEUES``."""

    name = "rq"

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, Queue] = {}

    def capture(self, keeper: Keeper) -> None:
        """Ask the keeper in the three methods of ``Queue``, and in django-rq's own way."""
        Queue.enqueue_job = _asking(keeper, Queue.enqueue_job)
        Queue.schedule_job = _asking(keeper, Queue.schedule_job)
        Queue.enqueue_many = _one_by_one(keeper, Queue.enqueue_many)
        if django_rq is not None:
            DjangoRQ.enqueue_call = _at_once(keeper, DjangoRQ.enqueue_call)

    def publish(self, content: dict[str, Any]) -> None:
        """Let RQ enqueue the job; dependencies are looked at now, so they come first."""
        try:
            queue = self._queue(content["queue"])
            job = Sealed(content["id"], connection=queue.connection)
            job.seal({name: _bytes(value) for name, value in content["job"].items()})
            for other in job._dependency_ids:
                if self.is_kept(other) and not Job.exists(other, connection=queue.connection):
                    raise TooEarly(other)
            when = content["at"]
            if when is None:
                options = {"at_front": content["at_front"]}
                queue.enqueue_job(job, **options, **_unique(content))
            else:
                queue.schedule_job(job, datetime.fromisoformat(when), **_unique(content))
        except AWAY as error:
            raise Away(str(error)) from error

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = self._make_queue(name)
        return self._queues[name]

    def _make_queue(self, name: str) -> Queue:
        if "url" in self.options:
            connection = Redis.from_url(
                self.options["url"], socket_timeout=SECONDS_TO_ANSWER, socket_keepalive=True
            )
            return Queue(name, connection=connection)
        if django_rq is not None and name in getattr(settings, "RQ_QUEUES", {}):
            return django_rq.get_queue(name, commit_mode="auto")
        raise ConfigurationError(
            f"Nobody knows the Redis server of RQ's queue {name!r}: it is not in RQ_QUEUES.\n"
            "Its messages cannot be published, and end as failed.\n"
            'Fix: OPTIONS = {"relay": {"rq": {"url": "redis://..."}}}, then retry them.'
        )

    def problem(self) -> str | None:
        """Say if nobody knows the server."""
        if "url" in self.options or (django_rq is not None and hasattr(settings, "RQ_QUEUES")):
            return None
        return 'where RQ\'s Redis server is. Set {"rq": {"url": "redis://..."}}, or RQ_QUEUES'

    def close(self) -> None:
        """Close the connections to Redis."""
        for queue in self._queues.values():
            with suppress(*AWAY):
                queue.connection.close()
        self._queues.clear()


class Sealed(Job):
    """A job whose function and arguments are bytes: pickled ones are never loaded."""

    def seal(self, raw: dict[str, bytes]) -> None:
        """Take what ``to_dict`` of the real job has returned."""
        self._opaque = {name: raw[name] for name in ("data", "meta") if name in raw}
        self.restore({name: value for name, value in raw.items() if name != "meta"})

    def to_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return what is stored in Redis."""
        return {**super().to_dict(include_meta=False), **self._opaque}


def _asking(keeper: Keeper, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send(self: Queue, job: Job, *args: Any, **options: Any) -> Job:
        if isinstance(job, Sealed) or not self._is_async:
            return original(self, job, *args, **options)
        when = _when(job)
        using = keeper.alias("rq", when=when)
        if using is None:
            try:
                return original(self, job, *args, **options)
            except AWAY as error:
                using = keeper.alias_if_away("rq", when=when)
                if using is None:
                    raise
                logger.warning("RQ's Redis is away (%s); %s is kept", error, job.id)
        job.origin = self.name
        at = (
            (args[0] if args else options["datetime"])
            if "schedule" in original.__name__
            else None
        )
        content = {
            "queue": self.name,
            "id": job.id,
            "at": at and at.isoformat(),
            "at_front": bool(options.get("at_front")),
            "unique": bool(options.get("unique")),
            "job": {name: _plain(value) for name, value in job.to_dict().items()},
        }
        keeper.keep(
            Message(broker="rq", message_id=job.id, name=job.func_name, content=content),
            using=using,
        )
        return job

    return send


def _one_by_one(keeper: Keeper, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue_many(
        self: Queue, job_datas: Iterable[Any], pipeline: Any = None, group_id: str | None = None
    ) -> list[Job]:
        if keeper.alias("rq", when=None) is None:
            direct: list[Job] = original(self, job_datas, pipeline=pipeline, group_id=group_id)
            return direct
        jobs = []
        for data in job_datas:
            fields = data._asdict()
            at_front = fields.pop("at_front")
            job = self.create_job(**fields, status=JobStatus.QUEUED, group_id=group_id)
            jobs.append(self.enqueue_job(job, at_front=at_front))
        return jobs

    return enqueue_many


def _at_once(keeper: Keeper, original: Callable[..., Any]) -> Callable[..., Any]:
    """Let django-rq not wait for the commit, or the end of the request, if we do."""

    @wraps(original)
    def enqueue_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if keeper.alias("rq", when=None) is None:
            return original(self, *args, **kwargs)
        return self.original_enqueue_call(*args, **kwargs)

    return enqueue_call


def _when(job: Job) -> str | None:
    try:
        return getattr(job.func, "aftercommit", None)
    except Exception:
        return None  # only its worker can import it


def _unique(content: dict[str, Any]) -> dict[str, bool]:
    return {"unique": True} if content["unique"] else {}  # older RQ does not know the word


def _plain(value: Any) -> Any:
    return as_json(value) if isinstance(value, bytes) else str(getattr(value, "value", value))


def _bytes(stored: Any) -> bytes:
    return stored.encode() if isinstance(stored, str) else as_bytes(stored)
