"""Publishing to RabbitMQ with pika, many messages at a time, each with its confirm."""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from pika import SelectConnection
from pika.adapters.select_connection import IOLoop
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from aftercommit.relay.brokers.base import Away
from aftercommit.relay.brokers.rabbitmq.confirms import Confirms

SECONDS_TO_ANSWER = 30

Ended = Callable[[Exception | None], None]


class Gathering(SelectConnection):
    """Sends messages that are published together by one write, not by one for each frame.

    ``_adapter_emit_data`` is the method that pika's own adapters define.
    """

    gathered: list[bytes] | None = None  # None: data is sent immediately

    def flush(self) -> None:
        """Send the gathered data, and stop gathering."""
        gathered, self.gathered = self.gathered, None
        if gathered:
            super()._adapter_emit_data(b"".join(gathered))

    def _adapter_emit_data(self, data: bytes) -> None:
        if self.gathered is None:
            super()._adapter_emit_data(data)
        else:
            self.gathered.append(data)


class Publisher:
    """A connection of one thread, whose event loop runs only while it publishes.

    pika's ``BlockingConnection`` waits for each confirm before the next message. This
    connection has no heartbeats, because they would not be answered between two calls.
    """

    def __init__(self, parameters: Any) -> None:
        several = parameters if isinstance(parameters, Sequence) else [parameters]
        quiet = [copy.copy(one) for one in several]
        for one in quiet:
            one.heartbeat = 0
        self._loop = IOLoop()
        self._connection: Any = None
        self._channel: Any = None
        self._error: BaseException | None = None
        self._closing = False
        self._confirms = Confirms()
        self._returned: list[bytes] = []  # bodies that were routed to no queue
        self._refused = 0
        Gathering.create_connection(quiet, on_done=self._connected, custom_ioloop=self._loop)
        try:
            self._drive()
        except BaseException:
            self.close()
            raise

    def publish(self, *, routing_key: str, body: bytes, properties: Any, ended: Ended) -> None:
        """Send a message; ``ended`` is called, in ``wait()``, when RabbitMQ has answered."""
        if self._connection.gathered is None:
            self._connection.gathered = []
        self._channel.basic_publish("", routing_key, body, properties, mandatory=True)
        self._confirms.expect(partial(self._answered, body, ended))

    def wait(self) -> None:
        """Return when RabbitMQ has answered for all messages.

        Raises ``Away`` if the connection breaks before, ``ChannelClosedByBroker`` if one of
        the messages is at fault.
        """
        self._connection.flush()
        if self._confirms:
            self._drive()
        if self._refused:
            raise Away(f"RabbitMQ has refused {self._refused} messages")

    def close(self) -> None:
        """Close the connection, in any state."""
        with suppress(Exception):
            if self._connection is not None and self._connection.is_open:
                self._closing = True
                self._connection.gathered = None  # messages of a call that has failed
                self._connection.close()
                self._drive()
        with suppress(Exception):
            self._loop.close()

    def _drive(self) -> None:
        limit = self._loop.call_later(SECONDS_TO_ANSWER, partial(self._stop, TimeoutError()))
        self._loop.start()
        self._loop.remove_timeout(limit)
        if isinstance(self._error, ChannelClosedByBroker):
            raise self._error
        if self._error is not None:
            raise Away(str(self._error) or type(self._error).__name__) from self._error

    def _stop(self, error: BaseException | None = None) -> None:
        self._error = self._error or error
        self._loop.stop()

    def _connected(self, result: Any) -> None:
        if isinstance(result, BaseException):
            self._stop(result)
            return
        self._connection = result
        result.add_on_close_callback(self._closed)
        result.channel(on_open_callback=self._opened)

    def _opened(self, channel: Any) -> None:
        self._channel = channel
        channel.add_on_close_callback(self._closed)
        channel.add_on_return_callback(self._came_back)
        channel.confirm_delivery(self._confirmed, callback=lambda _frame: self._stop())

    def _closed(self, what: Any, reason: BaseException) -> None:
        # While this publisher closes the connection, its channel is closed first: ignore that.
        if what is self._connection or not self._closing:
            self._stop(reason)

    def _came_back(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        self._returned.append(body)  # RabbitMQ sends this before the confirm

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        confirm = self._confirms.nacked if method.NAME == "Basic.Nack" else self._confirms.acked
        confirm(method.delivery_tag, method.multiple)
        if not self._confirms:
            self._stop()

    def _answered(self, body: bytes, ended: Ended, good: bool) -> None:
        if body in self._returned:
            self._returned.remove(body)
            ended(UnroutableError([]))
        elif good:
            ended(None)
        else:
            self._refused += 1
