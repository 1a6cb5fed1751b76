"""Publishes stored messages to Celery's broker, over a connection of the relay's own."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from inspect import signature
from typing import Any
from urllib.parse import urlsplit

from amqp.channel import Channel as AMQPChannel
from celery.app.base import Celery as App
from kombu import Connection, Exchange, Producer, Queue
from kombu.exceptions import OperationalError
from kombu.utils import json as kombu_json

from aftercommit.relay.brokers.base import Away, as_bytes
from aftercommit.relay.brokers.logins import Login, amqp_login
from aftercommit.relay.brokers.rabbitmq.confirms import Confirms
from aftercommit.relay.brokers.reachable import Address

SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 5, 30
ONE_TRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0}  # the relay tries again
# ConfirmingLink waits for the confirms itself.
AMQP = {"confirm_publish": False, "read_timeout": SECONDS_TO_ANSWER}
REDIS = {
    "socket_timeout": SECONDS_TO_ANSWER,
    "socket_connect_timeout": SECONDS_TO_CONNECT,
    "socket_keepalive": True,
}
TRANSPORTS: dict[str, dict[str, Any]] = {"amqp": AMQP, "redis": REDIS}
AWAY = (OperationalError, OSError)
LARGEST_WRITE = 256 * 1024  # bytes
# What a stored message says of itself must not be taken for an argument of the producer.
OPTIONS = frozenset(signature(Producer.publish).parameters)
# The types that kombu's JSON knows by itself. One that a project registers is passed on as it
# was stored: its decoder is the project's code, which only a consumer calls.
TYPES = {"bytes", "base64", "datetime", "date", "time", "decimal", "uuid"}


class Link:
    """A connection of one thread to the broker of an app."""

    def __init__(self, app: App, connection: Connection) -> None:
        self._app = app
        self._connection = connection
        self._producer = Producer(connection, auto_declare=False)
        self._declared: set[str] = set()

    def publish(self, content: dict[str, Any], *, arrived: Callable[[], None]) -> None:
        """Send a message; ``arrived`` is called when the broker has it, at last in ``wait()``."""
        for one in content["publishes"]:
            self._send(one)
        arrived()

    def wait(self) -> None:
        """Return when the broker has all messages; raises ``Away`` if it refuses one."""

    def close(self) -> None:
        """Close the connection, in any state."""
        with suppress(Exception):  # usually it is closed because it is broken
            self._connection.release()

    def _send(self, one: dict[str, Any]) -> None:
        self._declare(
            [stored for stored in one["declare"] if _name(stored) not in self._declared]
        )
        expires_at = one["expires_at"]
        self._producer.publish(
            as_bytes(one["body"]),
            content_type=one["content_type"],
            content_encoding=one["content_encoding"],
            headers=_restored(one["headers"]),
            exchange=one["exchange"],
            routing_key=one["routing_key"],
            delivery_mode=one["delivery_mode"],
            priority=one["priority"],
            expiration=None if expires_at is None else max(expires_at - time.time(), 0),
            **_restored(_properties(one)),
        )

    def _declare(self, entities: list[dict[str, Any]]) -> None:
        """Declare what this link has not declared yet, as kombu's producer does."""
        for stored in entities:
            self._producer.maybe_declare(_entity(stored, self._app))
            self._declared.add(_name(stored))


class ConfirmingLink(Link):
    """A connection to RabbitMQ: one write for many messages, one wait for their confirms.

    A write for each message would be a system call for each, after which the thread has to
    wait for the GIL.
    """

    def __init__(self, app: App, connection: Connection) -> None:
        super().__init__(app, connection)
        self._channel = self._producer.channel
        self._confirms = Confirms()
        self._refused = 0
        self._channel.confirm_select()
        self._channel.events["basic_ack"].add(self._confirms.acked)
        self._channel.events["basic_nack"].add(self._confirms.nacked)
        self._transport = connection.connection.transport
        self._write = self._transport._write  # py-amqp has no other way to buffer
        self._gathered = bytearray()

    def publish(self, content: dict[str, Any], *, arrived: Callable[[], None]) -> None:
        """See ``Link``."""
        *others, last = content["publishes"]
        for one in others:
            self._send(one)
            self._confirms.expect(partial(self._answered, lambda: None))
        self._send(last)
        self._confirms.expect(partial(self._answered, arrived))

    def wait(self) -> None:
        """See ``Link``."""
        self._flush()
        while self._confirms:
            self._connection.drain_events(timeout=SECONDS_TO_ANSWER)
        if self._refused:
            raise Away(f"RabbitMQ has refused {self._refused} messages")

    def _answered(self, arrived: Callable[[], None], good: bool) -> None:
        if good:
            arrived()
        else:
            self._refused += 1

    def _send(self, one: dict[str, Any]) -> None:
        self._transport._write = self._gathered.extend
        try:
            super()._send(one)
        finally:
            self._transport._write = self._write
        if len(self._gathered) > LARGEST_WRITE:
            self._flush()

    def _declare(self, entities: list[dict[str, Any]]) -> None:
        if entities:  # waits for the answers
            self._transport._write = self._write
            self._flush()
            super()._declare(entities)
            self._transport._write = self._gathered.extend

    def _flush(self) -> None:
        if self._gathered:
            gathered, self._gathered = self._gathered, bytearray()
            self._transport.write(gathered)


def connect(app: App) -> Link:
    """Return a new link to the broker of an app."""
    driver = app.connection_for_write().transport.driver_type
    connection = app.connection_for_write(
        connect_timeout=SECONDS_TO_CONNECT,
        transport_options={**ONE_TRY, **TRANSPORTS.get(driver, {})},
    )
    confirms = isinstance(connection.default_channel, AMQPChannel)
    return (ConfirmingLink if confirms else Link)(app, connection)


def away_errors(app: App) -> tuple[type[BaseException], ...]:
    """Return the errors of an app's broker that do not mean a bad message."""
    errors = app.connection_for_write().connection_errors
    # For Redis kombu includes KeyError, which may as well be a bug in this package.
    return (Away, *AWAY, *(one for one in errors if not issubclass(one, LookupError)))


def servers(app: App) -> list[list[Address]]:
    """Return the addresses of an app's broker, and of its result backend if that is Redis.

    Celery subscribes there to the result of a task before it sends the task.
    """
    found = []
    broker = app.connection_for_write()
    in_a_file = str(broker.hostname).startswith(("/", "socket:"))
    if broker.transport.driver_type in TRANSPORTS and not in_a_file:
        port = broker.transport.default_port
        urls = [urlsplit(url if "//" in url else f"//{url}") for url in broker.alt]
        several = [(url.hostname, url.port or port) for url in urls if url.hostname]
        found.append(several or [(str(broker.hostname), broker.port or port)])
    results = getattr(app.backend, "connparams", {})
    if results.get("host"):
        found.append([(results["host"], int(results.get("port") or 6379))])
    return found


def logins(app: App) -> list[Login]:
    """Return how an app logs in to its broker; nothing for a socket in a file, or a sentinel."""
    broker = app.connection_for_write()
    driver, options = broker.transport.driver_type, broker.transport_options or {}
    if driver not in TRANSPORTS or "master_name" in options or broker.login_method == "EXTERNAL":
        return []
    several = [Connection(url) for url in broker.alt or ()] or [broker]
    there = [one for one in several if not str(one.hostname).startswith(("/", "socket:"))]
    if driver == "amqp":
        return [amqp_login(one.hostname, one.userid, one.password) for one in there]
    return [Login("Redis", one.hostname or "localhost", not one.password) for one in there]


def server(connection: Connection) -> tuple[Any, ...] | None:
    """Return the host that a connection is to, and what else a message's place depends on.

    None if that is not known: several hosts, or what its host and its path do not tell. Who
    logs in does not matter.
    """
    transport = connection.transport
    if transport.driver_type not in TRANSPORTS or len(connection.alt or ()) > 1:
        return None
    options = connection.transport_options or {}
    path = str(connection.virtual_host or "").strip("/")
    if transport.driver_type == "redis":
        path = path or "0"
    return (
        str(connection.hostname or "localhost"),
        int(connection.port or transport.default_port),
        path,
        transport.driver_type,
        options.get("master_name"),
        options.get("global_keyprefix"),
    )


def _name(stored: dict[str, Any]) -> str:
    return json.dumps(stored)


def _entity(stored: dict[str, Any], app: App) -> Any:
    if "queue" in stored:
        return app.amqp.queues[stored["queue"]]
    if "exchange" in stored:
        return Exchange(**_restored(stored["exchange"]))
    options = _restored(stored["new_queue"])
    exchange = options.pop("exchange", None)
    options.pop("bindings", None)
    return Queue(exchange=Exchange(**exchange) if exchange else None, **options)


def _properties(one: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in one["properties"].items() if name not in OPTIONS}


def _restored(value: Any) -> Any:
    """Decode what kombu's JSON encodes with a type, such as dates."""
    if isinstance(value, dict):
        restored = {name: _restored(one) for name, one in value.items()}
        return kombu_json.object_hook(restored) if value.get("__type__") in TYPES else restored
    return [_restored(one) for one in value] if isinstance(value, list) else value
