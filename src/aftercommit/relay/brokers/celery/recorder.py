"""Records what Celery would publish, in the place of kombu's producer."""

import json
import time
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from celery.app.base import Celery as App
from kombu import Exchange, Producer
from kombu.utils import json as kombu_json

from aftercommit.relay.brokers.base import as_json

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
