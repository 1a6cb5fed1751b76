"""The relay: messages for brokers are jobs, and here is the task that publishes them."""

import asyncio
import json
import logging
import random
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any

from aftercommit import events
from aftercommit._compat import task_backends
from aftercommit.backend import DatabaseBackend
from aftercommit.brokers import broker_for, queue_of
from aftercommit.brokers.base import Away, Message, TooEarly
from aftercommit.conf import RELAY_WHEN
from aftercommit.control import Snooze
from aftercommit.errors import ConfigurationError, TimedOut
from aftercommit.pauses import is_paused, pause, resume
from aftercommit.store import default_alias
from aftercommit.tasks import Task
from aftercommit.transactions import open_aliases
from aftercommit.values import NewJob

logger = logging.getLogger("aftercommit")

FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=500), timedelta(seconds=5)
SHORTLY = timedelta(milliseconds=50)
MAX_ATTEMPTS = 5  # of a message that its broker refuses; one that is away costs none

IN_TRANSACTION, ALWAYS, NEVER = RELAY_WHEN
_in_vain: Counter[str] = Counter()  # tries in a row, by broker
_lock = threading.Lock()


def publish(broker: str, message_id: str, content: dict[str, Any]) -> None:
    """Publish a captured message.

    While the broker is away the message waits, whatever it takes, and no attempt is spent.
    """
    queue = queue_of(broker)
    if is_paused(queue):
        raise Snooze(_pause_after(_in_vain[broker]))
    try:
        broker_for(broker).publish(content)
    except TooEarly as error:
        raise Snooze(SHORTLY) from error
    except (Away, TimedOut) as error:  # a time limit of the backend: it does not answer
        with _lock:  # several threads notice at once
            tries = _in_vain[broker]
            _in_vain[broker] += 1
        if not tries:
            logger.warning("%s is away (%s); its messages wait", broker, error)
        span = _pause_after(tries)
        pause(queue, span)
        raise Snooze(span) from error
    if _in_vain.pop(broker, 0):
        resume(queue)
        logger.warning("%s is back", broker)


def _pause_after(tries: int) -> timedelta:
    longest = min(FIRST_PAUSE * 2.0 ** min(tries, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311


def publish_task(backend: DatabaseBackend) -> Task:
    """Return the task that publishes, on this backend; its worker knows it by its path."""
    return Task(
        func=publish,
        backend=backend.alias,
        queue_name=next(iter(sorted(backend.queues)), "default"),  # its jobs are in their own
        priority=0,
        run_after=None,
        takes_context=False,
        atomic=False,
        max_attempts=MAX_ATTEMPTS,
    )


class Keeper:
    """Keeps messages in the database whose transaction is open.

    With several open it is the one where the router writes jobs, if its transaction is
    among them, else the first in the order of ``DATABASES``; the log says so, because
    no order of their commits is right.
    """

    def alias(self, broker: str, *, when: str | None) -> str | None:
        """See ``brokers.base.Keeper``."""
        homes = _homes(broker)
        when = when or _when(homes)
        if when not in RELAY_WHEN:
            raise ConfigurationError(_unknown_when(broker, when))
        if when == NEVER or not homes:
            return None
        if found := _chosen(open_aliases(), homes, broker):
            return found
        return _home(homes) if when == ALWAYS else None

    def alias_if_away(self, broker: str, *, when: str | None) -> str | None:
        """See ``brokers.base.Keeper``."""
        homes = _homes(broker)
        if not homes or (when or _when(homes)) == NEVER or _in_event_loop():
            return None
        return _home(homes)

    def keep(self, message: Message, *, using: str) -> None:
        """See ``brokers.base.Keeper``."""
        backend = _homes(message.broker)[using]
        backend.store.insert([_job(message, backend)])


def _job(message: Message, backend: DatabaseBackend) -> NewJob:
    arguments = {
        "broker": message.broker,
        "message_id": message.message_id,
        "content": message.content,
    }
    payload = json.dumps({"args": [], "kwargs": arguments})
    return NewJob(
        task_path=f"{publish.__module__}.{publish.__qualname__}",
        payload=payload,
        backend=backend.alias,
        queue=queue_of(message.broker),
        max_attempts=MAX_ATTEMPTS,
        meta={
            "broker": message.broker,
            "message_id": message.message_id,
            "name": message.name,
            "size": len(payload),
        },
    )


def relaying() -> list[DatabaseBackend]:
    """Return our backends of TASKS whose OPTIONS have a ``relay``."""
    ours = (task_backends[alias] for alias in task_backends.settings)
    return [one for one in ours if isinstance(one, DatabaseBackend) and one.config.relay]


def _homes(broker: str) -> dict[str, DatabaseBackend]:
    """Return the backends that keep a broker's messages, by database alias."""
    return {one.using: one for one in reversed(relaying()) if broker in one.config.relay}


def _when(homes: Mapping[str, DatabaseBackend]) -> str:
    return next((one.config.relay_when for one in homes.values()), IN_TRANSACTION)


def _home(homes: Mapping[str, DatabaseBackend]) -> str:
    usual = default_alias()
    return usual if usual in homes else next(iter(homes))


def _chosen(opened: list[str], homes: Mapping[str, DatabaseBackend], broker: str) -> str | None:
    possible = [alias for alias in opened if alias in homes]
    if opened and not possible:
        logger.warning(
            "A message for %s is published inside a transaction on %s, which its consumer cannot "
            "see yet: no backend of TASKS with OPTIONS['relay'] keeps its jobs there.",
            broker,
            " and ".join(opened),
        )
    if not possible:
        return None
    usual = default_alias()
    chosen = usual if usual in possible else possible[0]
    if len(opened) > 1:
        logger.warning(
            "Transactions are open on %s; a message for %s is sent when that on %s commits, "
            "whatever becomes of the others.",
            " and ".join(opened),
            broker,
            chosen,
        )
    return chosen


def _unknown_when(broker: str, when: object) -> str:
    return (
        f"A task for {broker} says aftercommit={when!r}: expected one of "
        f"{', '.join(RELAY_WHEN)}. Nothing was sent."
    )


_installed: set[str] = set()


def install() -> None:
    """Capture the messages of every library that OPTIONS['relay'] names; once."""
    keeper = Keeper()
    for backend in relaying():
        publish_task(backend)
        for name, options in backend.config.libraries.items():
            broker = broker_for(name)
            broker.options = options
            broker.is_kept = partial(_is_kept, name)
            if name not in _installed:
                _installed.add(name)
                broker.capture(keeper)
                events.worker_stopped.connect(_close, dispatch_uid="aftercommit.relay")


def _in_event_loop() -> bool:
    """Tell whether this is a coroutine's thread, where Django writes nothing."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_kept(broker: str, message_id: str) -> bool:
    queue = queue_of(broker)
    return any(one.store.has_message(queue, message_id) for one in _homes(broker).values())


def _close(**_: object) -> None:
    for name in _installed:
        broker_for(name).close()
