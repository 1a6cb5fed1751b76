"""What a supervisor and one of its processes tell each other: a line of JSON each time."""

import contextlib
import json
import os
import select
import socket
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta
from typing import Any, ClassVar, Self
from weakref import WeakSet

from aftercommit.forked import keep_to_worker
from aftercommit.options.worker import WorkerConfig

Message = dict[str, Any]

CHUNK = 64 * 1024


class Channel:
    """One end of a pair of sockets; the other end is closed when its process is gone."""

    _open: ClassVar[WeakSet["Channel"]] = WeakSet()  # of this process

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._identity = _identity(end.fileno())
        self._rest = b""  # the beginning of a line
        self._open.add(self)
        keep_to_worker(self)

    @classmethod
    def pair(cls) -> tuple[Self, Self]:
        """Return both ends."""
        one, other = socket.socketpair()
        return cls(one), cls(other)

    @classmethod
    def descriptors(cls) -> set[int]:
        """Return the descriptors of all channels of this process."""
        return {one.fileno() for one in cls._open}

    def close_others(self) -> None:
        """Close all channels but this one; in a fork, which would keep them alive."""
        for one in set(self._open) - {self}:
            one.close()

    def fileno(self) -> int:
        """Return the descriptor of this end."""
        return self._socket.fileno()

    @property
    def is_intact(self) -> bool:
        """Whether this end is still open; code of a task may close any descriptor.

        Its number may since belong to a file of somebody else, so nothing is written to it.
        """
        return self._identity == _identity(self._socket.fileno())

    def send(self, **message: Any) -> bool:
        """Send a message; False if the other process does not read any more.

        It does not wait for a process that stands still: dropping a message is better
        than standing still as well.
        """
        if not self.is_intact:
            return False
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        if not poll.poll(0):
            return False
        try:
            self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def arrived(self) -> Iterator[Message]:
        """Return the messages that have arrived since the last call; do not wait for any."""
        with contextlib.suppress(OSError):  # nothing is there, or the other process is gone
            while part := self._socket.recv(CHUNK, socket.MSG_DONTWAIT):
                self._rest += part
        *lines, self._rest = self._rest.split(b"\n")
        return _messages(lines)

    def __iter__(self) -> Iterator[Message]:
        """Wait for messages until the other process is gone."""
        with contextlib.suppress(OSError), self._socket.makefile("rb") as lines:
            yield from _messages(lines)

    def closed_within(self, limit: timedelta) -> bool:
        """Wait until the other end is closed, on a channel without messages; True if it is."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(limit / timedelta(milliseconds=1)))

    def close(self) -> None:
        """Close this end."""
        self._open.discard(self)
        if self.is_intact:
            self._socket.close()
        else:
            self._socket.detach()


def _identity(descriptor: int) -> tuple[int, int] | None:
    try:
        found = os.fstat(descriptor)
    except OSError:  # closed
        return None
    return found.st_dev, found.st_ino


def message_of(config: WorkerConfig) -> Message:
    """Return a configuration as JSON has it."""
    told = {**asdict(config), "grace": config.grace.total_seconds()}
    del told["watchdog"]  # of the supervisor alone
    return told


def config_of(message: Message) -> WorkerConfig:
    """Return the configuration that a message holds."""
    lists = {name: tuple(message[name]) for name in ("backends", "queues", "only")}
    grace = timedelta(seconds=message["grace"])
    return WorkerConfig(**{**message, **lists, "grace": grace})


def _messages(lines: Any) -> Iterator[Message]:
    for line in lines:
        # A task may write to any descriptor; that must not end the supervisor.
        with contextlib.suppress(ValueError):
            message = json.loads(line)
            if isinstance(message, dict):
                yield message
