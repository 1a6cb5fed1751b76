"""Huey: every way to enqueue a task ends in ``Huey.enqueue``."""

import copy
import logging
from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import redis.exceptions
from django.conf import settings
from django.utils.module_loading import import_string
from huey.api import Huey as HueyQueue
from huey.api import Result

from aftercommit.errors import ConfigurationError
from aftercommit.relay.brokers.base import (
    Away,
    Broker,
    Message,
    Outbox,
    as_bytes,
    as_json,
    publish_or_keep,
)
from aftercommit.relay.brokers.logins import Login, redis_login
from aftercommit.relay.brokers.reachable import Address, is_reachable, redis_servers
from aftercommit.relay.brokers.servers import Places, bounded, not_kept
from aftercommit.relay.brokers.unsent import after_commit, parts, refusing

logger = logging.getLogger("aftercommit")

AWAY = (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError)
_seen: WeakValueDictionary[str, HueyQueue] = WeakValueDictionary()


class Huey(Broker):
    """The Huey of ``huey.contrib.djhuey``, or ``{"huey": {"instance": "site.tasks.huey"}}``."""

    name = "huey"

    def capture(self, outbox: Outbox) -> None:
        """Ask the outbox in ``Huey.enqueue`` of all instances."""
        HueyQueue.enqueue = _asking(outbox, HueyQueue.enqueue)
        Result.get_raw_result = refusing(Result.get_raw_result, parts, unless=_does_not_wait)

    def publish(self, content: dict[str, Any]) -> None:
        """Put the serialised task into the storage."""
        instance = self._instance(content["huey"], content.get("paths"))
        try:
            _bounded(instance.storage).enqueue(as_bytes(content["task"]), content["priority"])
        except AWAY as error:
            raise Away(str(error)) from error

    def problem(self) -> str | None:
        """Return that the instance is missing, if the settings do not name it."""
        if "instance" in self.options or hasattr(settings, "HUEY"):
            return None
        return 'which Huey is yours. Set {"huey": {"instance": "site.tasks.huey"}}, or HUEY'

    def logins(self) -> list[Login]:
        """Return the server of the usual instance."""
        return redis_login(getattr(getattr(self._usual(None), "storage", None), "conn", None))

    def _instance(self, name: str, paths: Sequence[str] | None) -> HueyQueue:
        """Return the instance that kept a message; only an earlier version kept no path."""
        if paths and (found := _places.find(paths)):
            return found
        usual = self._usual(None if paths else name)
        found = _places.find(paths) if paths else usual  # its module is loaded now
        if found is None:
            raise ConfigurationError(
                f"The Huey instance {name!r} is not known in this process.\n"
                "Its tasks cannot be published, and end as failed.\n"
                'Fix: OPTIONS = {"relay": {"huey": {"instance": "site.tasks.huey"}}}, or import '
                "its module in a tasks.py, then retry them."
            )
        return found

    def _usual(self, name: str | None) -> HueyQueue | None:
        if path := self.options.get("instance"):
            return import_string(path)
        if name is not None and name in _seen:
            return _seen[name]
        try:
            from huey.contrib.djhuey import HUEY  # noqa: PLC0415 - fails without its settings
        except Exception as error:
            logger.debug("Huey's own instance for Django is not there: %s", error)
            return None
        return HUEY


_places = Places(HueyQueue)


_storages: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _bounded(storage: Any) -> Any:
    """Return a storage like this one that does not wait for Redis for ever."""
    if not hasattr(getattr(storage, "conn", None), "connection_pool"):
        return storage
    if storage not in _storages:
        _storages[storage] = copied = copy.copy(storage)
        copied.conn = bounded(storage.conn)
    return _storages[storage]


def _servers(instance: HueyQueue) -> list[list[Address]]:
    pool = getattr(instance.storage, "pool", None)
    return redis_servers(pool) if hasattr(pool, "connection_kwargs") else []


def _fault(instance: HueyQueue) -> str | None:
    if _places.of(instance):
        return None
    return not_kept(
        "Huey",
        f"The Huey instance {instance.name!r} is no attribute of a module, so no relay can "
        "find it.",
        "make the instance in a module of the project",
    )


def _does_not_wait(blocking: bool = False, *_args: Any, **_options: Any) -> bool:
    return not blocking


class Recorder:
    """Replaces Huey's storage: records what would have been put into the queue."""

    def __init__(self, storage: Any) -> None:
        self._storage = storage
        self.put: list[tuple[bytes, Any]] = []

    def enqueue(self, data: bytes, priority: Any = None) -> None:
        """Record a serialised task."""
        self.put.append((data, priority))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)  # results are read from the real storage


def _asking(outbox: Outbox, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def enqueue(self: HueyQueue, task: Any) -> Any:
        _seen[self.name] = self
        if self._immediate or not hasattr(task, "priority"):
            return original(self, task)  # a group or a chord calls this again for its members

        def keep(using: str) -> Any:
            recording = copy.copy(self)
            recording.storage = recorder = Recorder(self.storage)
            recording._emit = lambda *event: after_commit(
                partial(self._emit, *event), using=using
            )
            result = original(recording, task)
            for data, priority in recorder.put:
                content = {
                    "huey": self.name,
                    "paths": _places.of(self),
                    "task": as_json(data),
                    "priority": priority,
                }
                message = Message(
                    broker="huey", message_id=task.id, name=task.name, content=content
                )
                outbox.keep(message, using=using)
            return result

        return publish_or_keep(
            outbox,
            "huey",
            when=getattr(task, "aftercommit", None),
            away=AWAY,
            publish=lambda: original(self, task),
            keep=keep,
            fault=lambda: _fault(self),
            there=lambda: is_reachable(self, lambda: _servers(self)),
        )

    return enqueue
