"""Records what Celery would publish, in the place of kombu's producer."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from celery.app.base import Celery as App
from celery.signals import after_task_publish, task_sent
from kombu import Exchange, Producer
from kombu.utils import json as kombu_json

from aftercommit.relay.brokers.base import as_json
from aftercommit.relay.brokers.unsent import after_commit

# Arguments of ``Producer.publish``: the relay has its own retries and timeouts.
NOT_STORED = (
    *("retry", "retry_policy", "timeout", "confirm_timeout"),
    *("mandatory", "immediate"),
)


class Recorder(Producer):
    """Replaces kombu's producer: serialises messages, and records them instead of publishing."""

    def __init__(self, app: App) -> None:
        super().__init__(None, auto_declare=False)
        self.published: list[dict[str, Any]] = []
        self._sent: list[dict[str, Any]] = []
        self._app = app
        self._unopened = Unopened(app)

    @property
    def connection(self) -> Any:
        """What Celery asks about its broker."""
        return self._unopened

    @property
    def channel(self) -> Any:
        """A real channel, for whoever does more than to publish."""
        return self._unopened.default_channel

    @channel.setter
    def channel(self, _channel: Any) -> None:
        """Ignore it, as ``revive``."""

    def revive(self, _channel: Any) -> None:
        """Do nothing: a recorder has lost no connection."""

    def maybe_declare(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the relay declares what a message needs."""

    def announce(self, name: str, *, using: str) -> None:
        """Send ``after_task_publish`` when the transaction commits."""
        if after_task_publish.receivers:
            message = self._sent[0]  # events follow
            after_commit(lambda: after_task_publish.send(sender=name, **message), using=using)

    def publish(self, body: Any, routing_key: str | None = None, **options: Any) -> None:
        """Record a message as ``Producer.publish`` would have sent it."""
        for name in NOT_STORED:
            options.pop(name, None)
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
        self._sent.append(
            {"body": body, "headers": headers, "exchange": exchange, "routing_key": routing_key}
        )
        expiration = take("expiration", None)
        self.published.append(
            {
                "body": as_json(data if isinstance(data, bytes) else data.encode()),
                "content_type": kind,
                "content_encoding": encoding,
                "headers": plain(headers),
                "exchange": where,
                "routing_key": routing_key,
                "delivery_mode": mode,
                "priority": take("priority", None) or 0,
                "expires_at": None if expiration is None else time.time() + expiration,
                "declare": [name_of(one, self._app) for one in take("declare", None) or ()],
                "properties": plain(options),
            }
        )


_recording: ContextVar[bool] = ContextVar("aftercommit_celery_recording", default=False)
AFTERWARDS = (after_task_publish, task_sent)


@contextmanager
def recording() -> Iterator[None]:
    """Let no receiver hear that a message has been published: it may be rolled back."""
    token = _recording.set(True)
    try:
        yield
    finally:
        _recording.reset(token)


def quieten_signals() -> None:
    """Prepare the signals that mean a published message for ``recording``."""
    for signal in AFTERWARDS:
        signal._live_receivers = _unless_recording(signal._live_receivers)


def _unless_recording(original: Callable[..., Any]) -> Callable[..., Any]:
    def live_receivers(sender: Any) -> Any:
        return [] if _recording.get() else original(sender)

    return live_receivers


class Unopened:
    """The connection of a ``Recorder``: a connection of the app, opened by nobody.

    Celery asks it for classes of errors, options and the transport; which of them differs from
    version to version.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    def _reraise_as_library_errors(self) -> Any:
        return nullcontext()

    @cached_property
    def _real(self) -> Any:
        return self._app.connection_for_write()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def name_of(entity: Any, app: App) -> dict[str, Any]:
    """Return what another process needs to declare a queue or an exchange."""
    if isinstance(entity, str):
        return {"queue": entity}
    if entity.name in app.amqp.queues:
        return {"queue": entity.name}
    kind = "exchange" if isinstance(entity, Exchange) else "new_queue"
    return {kind: plain(entity.as_dict(recurse=True))}


def plain(value: Any) -> Any:
    """Return a value as kombu's JSON encodes it: dates and the like with their types."""
    return json.loads(kombu_json.dumps(value))
