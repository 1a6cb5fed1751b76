"""Celery: every way to send a task ends in ``Celery.send_task``."""

import json
import logging
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import celery
from amqp.exceptions import MessageNacked
from celery.app.base import Celery as App
from kombu import Exchange, Producer, Queue
from kombu.exceptions import OperationalError
from kombu.utils import json as kombu_json
from kombu.utils.uuid import uuid

from aftercommit.brokers.base import Away, Broker, Keeper, Message, as_bytes, as_json

logger = logging.getLogger("aftercommit")

SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 5, 30
ONE_TRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}  # the relay comes again
AMQP = {"confirm_publish": True, "read_timeout": SECONDS_TO_ANSWER}
REDIS = {
    "socket_timeout": SECONDS_TO_ANSWER,
    "socket_connect_timeout": SECONDS_TO_CONNECT,
    "socket_keepalive": True,
}
TRANSPORTS: dict[str, dict[str, Any]] = {"amqp": AMQP, "redis": REDIS}
AWAY = (OperationalError, OSError, MessageNacked)


class Celery(Broker):
    """Celery, with whatever transport kombu knows."""

    name = "celery"

    def __init__(self) -> None:
        super().__init__()
        self._local = threading.local()
        self._connections: set[Any] = set()

    def capture(self, keeper: Keeper) -> None:
        """Ask the keeper in ``Celery.send_task``, of all apps."""
        App.send_task = _asking(keeper, App.send_task)

    def publish(self, content: dict[str, Any]) -> None:
        """Publish with kombu's producer; RabbitMQ confirms each message."""
        app = _app_called(content["app"])
        try:
            producer = self._producer(app)
            for one in content["publishes"]:
                _publish(producer, app, one)
        except Exception as error:
            away = isinstance(error, (*AWAY, *self._errors_of(app)))
            self._forget(app)
            if away:
                raise Away(str(error)) from error
            raise

    def _producer(self, app: App) -> Producer:
        producers: WeakKeyDictionary[App, Producer] = self._producers
        if app not in producers:
            driver = app.connection_for_write().transport.driver_type
            connection = app.connection_for_write(
                connect_timeout=SECONDS_TO_CONNECT,
                transport_options={**ONE_TRY, **TRANSPORTS.get(driver, {})},
            )
            producers[app] = Producer(connection, auto_declare=False)
            self._connections.add(connection)
        return producers[app]

    @property
    def _producers(self) -> Any:
        if not hasattr(self._local, "producers"):
            self._local.producers = WeakKeyDictionary()
        return self._local.producers

    def _errors_of(self, app: App) -> tuple[type[BaseException], ...]:
        errors = app.connection_for_write().connection_errors
        # For Redis kombu names KeyError, too: that is as likely to be ours.
        return tuple(one for one in errors if not issubclass(one, LookupError))

    def _forget(self, app: App) -> None:
        producer = self._producers.pop(app, None)
        if producer is not None:
            self._release(producer.connection)

    def close(self) -> None:
        """Close the connections of all threads."""
        for connection in list(self._connections):
            self._release(connection)
        self._local = threading.local()

    def _release(self, connection: Any) -> None:
        self._connections.discard(connection)
        with suppress(Exception):  # as a rule it is broken, that is why
            connection.release()


class Recorder(Producer):
    """Stands for kombu's producer: serialises, and keeps what it would have published."""

    def __init__(self, app: App) -> None:
        super().__init__(None, auto_declare=False)
        self.published: list[dict[str, Any]] = []
        self._app = app

    @property
    def connection(self) -> Any:
        """Something that has no errors to translate."""
        return NoConnection()

    def publish(self, body: Any, routing_key: str | None = None, **options: Any) -> None:
        """Keep a message as ``Producer.publish`` would have sent it."""
        for name in ("retry", "retry_policy", "timeout", "confirm_timeout", "mandatory"):
            options.pop(name, None)  # the relay has its own
        take = options.pop
        headers = dict(take("headers", None) or {})
        data, kind, encoding = self._prepare(
            body,
            serializer=take("serializer", None),
            content_type=take("content_type", None),
            content_encoding=take("content_encoding", None),
            compression=take("compression", None),
            headers=headers,
        )
        exchange = take("exchange", None) or self.exchange
        where, mode = self._delivery_details(exchange, take("delivery_mode", None))
        expiration = take("expiration", None)
        self.published.append(
            {
                "body": as_json(data if isinstance(data, bytes) else data.encode()),
                "content_type": kind,
                "content_encoding": encoding,
                "headers": _plain(headers),
                "exchange": where,
                "routing_key": routing_key,
                "delivery_mode": mode,
                "priority": take("priority", None) or 0,
                "expires_at": None if expiration is None else time.time() + expiration,
                "declare": [_name_of(one, self._app) for one in take("declare", None) or ()],
                "properties": _plain(options),
            }
        )


class NoConnection:
    """The connection of a ``Recorder``."""

    def _reraise_as_library_errors(self) -> Any:
        return nullcontext()


def _asking(keeper: Keeper, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def send_task(self: App, name: str, *args: Any, **options: Any) -> Any:
        if options.get("retries"):
            # Of a running task that is about to raise, perhaps out of atomic(): a message
            # that the rollback takes back would be a task that is never run again.
            return original(self, name, *args, **options)
        when = getattr(self._tasks.get(name), "aftercommit", None)
        using = keeper.alias("celery", when=when)
        options["task_id"] = options.get("task_id") or uuid()
        if using is None:
            try:
                return original(self, name, *args, **options)
            except AWAY as error:
                using = keeper.alias_if_away("celery", when=when)
                if using is None:
                    raise
                logger.warning("Celery's broker is away (%s); %s is kept", error, name)
        recorder = Recorder(self)
        options.pop("connection", None)
        options["producer"] = recorder
        _quieten(self.backend)
        result = original(self, name, *args, **options)
        content = {"app": self.main, "publishes": recorder.published}
        message = Message(
            broker="celery", message_id=options["task_id"], name=name, content=content
        )
        keeper.keep(message, using=using)
        return result

    return send_task


def _quieten(backend: Any) -> None:
    """Let a result backend not ask its server when a message is only recorded.

    Redis would subscribe to the result; ``AsyncResult.get()`` does so too. The rpc backend
    declares the queue of its replies, which nobody else does in time.
    """
    known = backend.on_task_call
    if getattr(known, "is_quiet", False):
        return

    def on_task_call(producer: Any, task_id: str) -> Any:
        if not isinstance(producer, Recorder):
            return known(producer, task_id)
        if not hasattr(backend, "binding"):
            return {}
        try:
            with backend.app.producer_pool.acquire(block=True) as real:
                return known(real, task_id)
        except AWAY as error:
            logger.warning("The queue for the reply to %s was not declared: %s", task_id, error)
            return {}

    on_task_call.is_quiet = True  # type: ignore[attr-defined]
    backend.on_task_call = on_task_call


def _publish(producer: Producer, app: App, one: dict[str, Any]) -> None:
    expires_at = one["expires_at"]
    producer.publish(
        as_bytes(one["body"]),
        content_type=one["content_type"],
        content_encoding=one["content_encoding"],
        headers=_restored(one["headers"]),
        exchange=one["exchange"],
        routing_key=one["routing_key"],
        delivery_mode=one["delivery_mode"],
        priority=one["priority"],
        expiration=None if expires_at is None else max(expires_at - time.time(), 0),
        declare=[_entity(entity, app) for entity in one["declare"]],
        **_restored(one["properties"]),
    )


def _app_called(name: str | None) -> App:
    """Return the app that has sent a message, or the only one that there is."""
    apps = list(celery._state._get_active_apps())
    return next((app for app in apps if app.main == name), celery.current_app)


def _name_of(entity: Any, app: App) -> dict[str, Any]:
    """Return what is enough to declare a queue or an exchange elsewhere."""
    if isinstance(entity, str):
        return {"queue": entity}
    if entity.name in app.amqp.queues:
        return {"queue": entity.name}
    kind = "exchange" if isinstance(entity, Exchange) else "new_queue"
    return {kind: _plain(entity.as_dict(recurse=True))}


def _entity(stored: dict[str, Any], app: App) -> Any:
    if "queue" in stored:
        return app.amqp.queues[stored["queue"]]
    if "exchange" in stored:
        return Exchange(**_restored(stored["exchange"]))
    options = _restored(stored["new_queue"])
    exchange = options.pop("exchange", None)
    options.pop("bindings", None)
    return Queue(exchange=Exchange(**exchange) if exchange else None, **options)


def _plain(value: Any) -> Any:
    """Return what kombu's JSON makes of a value: dates and the like with their types."""
    return json.loads(kombu_json.dumps(value))


def _restored(value: Any) -> Any:
    return kombu_json.loads(json.dumps(value))
