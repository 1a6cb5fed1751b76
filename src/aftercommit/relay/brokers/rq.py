"""RQ and django-rq: every way to enqueue ends in one of three methods of ``Queue``."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import wraps
from itertools import groupby
from typing import Any

from django.conf import settings
from redis import Redis
from redis.exceptions import BusyLoadingError, ConnectionError, OutOfMemoryError, TimeoutError
from rq import Queue, exceptions
from rq.job import Job, JobStatus

from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers.base import (
    Away,
    Broker,
    Message,
    Outbox,
    Report,
    TooEarly,
    as_json,
    publish_or_keep,
)
from aftercommit.relay.brokers.logins import Login, redis_login
from aftercommit.relay.brokers.reachable import is_reachable, redis_servers
from aftercommit.relay.brokers.rq_kept import prepare_jobs
from aftercommit.relay.brokers.rq_sealed import Sealed, SealingSerializer, sealed
from aftercommit.relay.brokers.servers import SECONDS_TO_ANSWER, bounded, not_kept, same_redis

try:
    import django_rq
    from django_rq.queues import DjangoRQ
except ImportError:  # RQ alone
    django_rq = None

AWAY = (BusyLoadingError, ConnectionError, OutOfMemoryError, TimeoutError)
# Fields for which RQ reads from Redis, so that a job with one cannot be in a pipeline.
SPECIAL = {"dependency_id", "dependency_ids", "rate_limit_key"}


class RQ(Broker):
    """RQ alone (``{"rq": {"url": "redis://…"}}``), or with django-rq's ``RQ_QUEUES``."""

    name = "rq"

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, Queue] = {}

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in three methods of ``Queue``, and in django-rq's ``enqueue_call``."""
        Queue.enqueue_job = _asking(self, outbox, Queue.enqueue_job)
        Queue.schedule_job = _asking(self, outbox, Queue.schedule_job, scheduled=True)
        Queue.enqueue_many = _one_by_one(outbox, Queue.enqueue_many)
        prepare_jobs()
        if django_rq is not None:
            DjangoRQ.enqueue_call = _at_once(outbox, DjangoRQ.enqueue_call)

    def publish(self, content: dict[str, Any]) -> None:
        """Let RQ enqueue the job; its dependencies must be published before."""
        try:
            queue = self._queue(content["queue"])
            job = sealed(content, queue)
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

    def publish_many(self, contents: Mapping[int, dict[str, Any]], report: Report) -> None:
        """Let RQ enqueue neighbours in one pipeline, if it reads nothing from Redis for them."""
        for queue, run in groupby(contents.items(), key=_pipeline_of):
            theirs = dict(run)
            if queue is None:
                self.publish_each(theirs, report)
            else:
                self._pipelined(queue, theirs.values())
                for number in theirs:
                    report(number, None)

    def _pipelined(self, name: str, contents: Iterable[dict[str, Any]]) -> None:
        """Enqueue all of them or none."""
        try:
            queue = self._queue(name)
            pipeline = queue.connection.pipeline()
            for content in contents:
                queue.enqueue_job(
                    sealed(content, queue), pipeline=pipeline, at_front=content["at_front"]
                )
            pipeline.execute()
        except AWAY as error:
            raise Away(str(error)) from error

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = self._make_queue(name)
        return self._queues[name]

    def _make_queue(self, name: str) -> Queue:
        if "url" in self.options:
            connection = _connection(self.options["url"])
            return Queue(name, connection=connection, serializer=SealingSerializer)
        if django_rq is not None and name in getattr(settings, "RQ_QUEUES", {}):
            # Even if RQ_QUEUES says ASYNC=False: this process never runs the job of a row.
            queue = django_rq.get_queue(
                name, commit_mode="auto", is_async=True, serializer=SealingSerializer
            )
            queue.connection = bounded(queue.connection)
            return queue
        raise ConfigurationError(
            f"The Redis server of RQ's queue {name!r} is not known: it is not in RQ_QUEUES.\n"
            "Its messages cannot be published, and end as failed.\n"
            'Fix: OPTIONS = {"relay": {"rq": {"url": "redis://..."}}}, then retry them.'
        )

    def fault(self, queue: Queue) -> str | None:
        """Return why the jobs of a queue cannot be kept, or None."""
        try:
            own = self._queue(queue.name)
        except ConfigurationError as error:
            return str(error)
        if same_redis(own.connection, queue.connection):
            return None
        return not_kept(
            "RQ",
            f"The queue {queue.name!r} was made with a connection to another Redis server than "
            "the one that OPTIONS['relay'] or RQ_QUEUES says.",
            "name the queue and its server in RQ_QUEUES",
        )

    def problem(self) -> str | None:
        """Return that the server is missing, if the settings do not name it."""
        if "url" in self.options or (django_rq is not None and hasattr(settings, "RQ_QUEUES")):
            return None
        return 'where RQ\'s Redis server is. Set {"rq": {"url": "redis://..."}}, or RQ_QUEUES'

    def logins(self) -> list[Login]:
        """Return the server of the option, or those of django-rq."""
        names = ["default"] if "url" in self.options else getattr(settings, "RQ_QUEUES", ())
        return [one for name in names for one in redis_login(self._queue(name).connection)]

    def close(self) -> None:
        """Close the connections to Redis."""
        for queue in self._queues.values():
            with suppress(*AWAY):
                queue.connection.close()
        self._queues.clear()


def _connection(url: Any) -> Redis:
    try:
        return Redis.from_url(url, socket_timeout=SECONDS_TO_ANSWER, socket_keepalive=True)
    except (AttributeError, TypeError, ValueError):
        # Without the error: its message may contain a part of the password.
        raise ConfigurationError(
            "OPTIONS['relay']['rq']['url'] is no address of a Redis server.\n"
            "Messages for RQ cannot be published, and end as failed.\n"
            "Fix: write redis://user:password@host:6379/0, with special characters of the "
            "password as %40 and the like, then retry them."
        ) from None


def _pipeline_of(numbered: tuple[int, dict[str, Any]]) -> str | None:
    """Return the queue in whose pipeline a job may be enqueued; None: it is enqueued alone."""
    _number, content = numbered
    special = content["at"] or content["unique"] or SPECIAL & content["job"].keys()
    return None if special else content["queue"]


def _asking(
    broker: RQ, outbox: Outbox, original: Callable[..., Any], *, scheduled: bool = False
) -> Callable[..., Any]:
    @wraps(original)
    def send(self: Queue, job: Job, *args: Any, **options: Any) -> Any:
        if isinstance(job, Sealed) or not self._is_async:
            return original(self, job, *args, **options)
        pool = self.connection.connection_pool
        at = (args[0] if args else options["datetime"]) if scheduled else None

        def keep(using: str) -> Job:
            if options.get("unique"):
                _refuse_copy(broker, job, self)
            return _keep(outbox, using, job, self, at, options)

        return publish_or_keep(
            outbox,
            "rq",
            when=_when(job),
            away=AWAY,
            publish=lambda: original(self, job, *args, **options),
            keep=keep,
            fault=lambda: broker.fault(self),
            there=lambda: is_reachable(pool, lambda: redis_servers(pool)),
        )

    return send


def _keep(
    outbox: Outbox,
    using: str,
    job: Job,
    queue: Queue,
    at: datetime | None,
    options: dict[str, Any],
) -> Job:
    job.origin = queue.name
    content = {
        "queue": queue.name,
        "id": job.id,
        "at": at and at.isoformat(),
        "at_front": bool(options.get("at_front")),
        "unique": bool(options.get("unique")),
        "job": {name: _plain(value) for name, value in job.to_dict().items()},
    }
    message = Message(broker="rq", message_id=job.id, name=job.func_name, content=content)
    outbox.keep(message, using=using)
    job._status = JobStatus.SCHEDULED if at else JobStatus.QUEUED
    return job


def _refuse_copy(broker: RQ, job: Job, queue: Queue) -> None:
    """Raise RQ's own error if a job with this id is kept, or in Redis if that answers."""
    pool = queue.connection.connection_pool
    there = broker.is_kept(job.id)
    if not there and is_reachable(pool, lambda: redis_servers(pool)):
        with suppress(*AWAY):
            there = Job.exists(job.id, connection=queue.connection)
    if there:
        raise exceptions.DuplicateJobError(f"Job with ID {job.id} already exists")


def _one_by_one(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue_many(
        self: Queue, job_datas: Iterable[Any], pipeline: Any = None, group_id: str | None = None
    ) -> list[Job]:
        if outbox.alias("rq", when=None) is None:
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


def _at_once(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    """Do not let django-rq wait for the commit or the request's end: it forgets if it dies."""

    @wraps(original)
    def enqueue_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        function = args[0] if args else kwargs.get("func")
        when = getattr(function, "aftercommit", None)
        kept = outbox.alias("rq", when=when) is not None
        if self._commit_mode == "request_finished" and not kept:
            kept = outbox.alias_if_away("rq", when=when) is not None
        if not kept:
            return original(self, *args, **kwargs)
        return self.original_enqueue_call(*args, **kwargs)

    return enqueue_call


def _when(job: Job) -> str | None:
    try:
        return getattr(job.func, "aftercommit", None)
    except Exception:
        return None  # the function can be imported in its worker only


def _unique(content: dict[str, Any]) -> dict[str, bool]:
    return {"unique": True} if content["unique"] else {}  # older versions of RQ do not have it


def _plain(value: Any) -> Any:
    return as_json(value) if isinstance(value, bytes) else str(getattr(value, "value", value))
