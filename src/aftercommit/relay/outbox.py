"""The outbox: messages for brokers, stored in the database whose transaction is open."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Any

from django.db import connections

from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.gather import open_block
from aftercommit.enqueue.headers import inside
from aftercommit.enqueue.transactions import in_event_loop, open_aliases
from aftercommit.errors import ConfigurationError, PayloadTooLarge
from aftercommit.ids import new_job_id
from aftercommit.middleware import Enqueuing
from aftercommit.options.conf import RELAY_WHEN
from aftercommit.options.queues import queue_in_order, queue_of
from aftercommit.relay.brokers import broker_for
from aftercommit.relay.brokers.base import Message
from aftercommit.relay.brokers.unsent import note
from aftercommit.relay.neglected import Reminder
from aftercommit.relay.ordering import current_key
from aftercommit.store import default_alias
from aftercommit.values import NewJob

logger = logging.getLogger("aftercommit")

PUBLISH = "aftercommit.relay.publish"  # the path of the task that publishes, since 0.1.0
MAX_ATTEMPTS = 5  # of a message that its broker refuses; an outage costs none
IN_TRANSACTION, ALWAYS, NEVER = RELAY_WHEN


_reminder = Reminder()


class Outbox:
    """Stores messages in the database whose transaction is open.

    If several transactions are open, it is the database where the router writes jobs, if its
    transaction is among them, else the first one in the order of ``DATABASES``. A warning is
    logged, because the message is sent even if another of these transactions rolls back.
    """

    def alias(self, broker: str, *, when: str | None) -> str | None:
        """See ``brokers.base.Outbox``."""
        backends = backends_keeping(broker)
        when = when or _when(backends)
        if when not in RELAY_WHEN:
            raise ConfigurationError(_unknown_when(broker, when))
        if when == NEVER or not backends:
            return None
        if current_key() is not None:
            when = ALWAYS  # it must not overtake messages that are in the outbox
        if found := _chosen(open_aliases(), backends, broker):
            return found
        return _usual_alias(backends) if when == ALWAYS else None

    def would_keep(
        self,
        broker: str,
        when: str | None,
        backend: str | None,
        aliases: Sequence[str] | None = None,
    ) -> bool:
        """Return whether ``alias`` would name one; logs nothing, see ``relayed``."""
        backends = backends_keeping(broker)
        if backend is not None and not broker_for(broker).covers(backend):
            return False
        when = when or _when(backends)
        if when == NEVER or not backends:
            return False
        if when == ALWAYS or current_key() is not None:
            return True
        found = open_aliases() if aliases is None else aliases
        return any(alias in backends for alias in found)

    def alias_if_away(self, broker: str, *, when: str | None) -> str | None:
        """See ``brokers.base.Outbox``."""
        backends = backends_keeping(broker)
        if not backends or (when or _when(backends)) == NEVER or in_event_loop():
            return None
        return _usual_alias(backends)

    def keep(self, message: Message, *, using: str) -> None:
        """See ``brokers.base.Outbox``."""
        if in_event_loop():
            # Django does not write in a coroutine. No transaction is open there.
            with ThreadPoolExecutor(1) as thread:
                # In the caller's context: what writes headers looks there.
                insert = partial(_insert, message, using, current_key())
                thread.submit(copy_context().run, _alone, insert).result()
            return
        _insert(message, using, current_key())
        note(message.message_id, using=using)


def _insert(message: Message, using: str, key: str | None) -> None:
    backend = backends_keeping(message.broker)[using]
    if not backend.header_writers:  # mostly
        _insert_job(_job(message, backend, key), backend)
        return

    def write(stack: ExitStack) -> None:
        job_id, queue = message.job_id or new_job_id(), _queue(message, key)
        enqueuing = Enqueuing(
            task=None,
            name=message.name,
            job_ids=[str(job_id)],
            queue=queue,
            backend=backend.alias,
            using=using,
            broker=message.broker,
        )
        written = backend.header_writers.enter(stack, enqueuing)
        headers = {} if written is None else written.headers
        content = broker_for(message.broker).with_headers(message.content, headers)
        job = _job(replace(message, job_id=job_id, content=content), backend, key)
        _insert_job(job if written is None else written.into(job), backend)

    inside(write)


def _insert_job(job: NewJob, backend: DatabaseBackend) -> None:
    using, look = backend.using, partial(_reminder.look, backend)
    if (block := open_block()) is None or not block.take(using, [job], inserted=look):
        backend.store.insert([job])
        look()


def _alone(insert: Callable[[], None]) -> None:
    """Insert in a thread of its own, whose connections end with it."""
    try:
        insert()
    finally:
        connections.close_all()


def _job(message: Message, backend: DatabaseBackend, key: str | None) -> NewJob:
    arguments: dict[str, Any] = {
        "broker": message.broker,
        "message_id": message.message_id,
        "content": message.content,
    }
    meta = {"name": message.name}
    if key is not None:
        arguments["ordering_key"] = meta["ordering_key"] = key
    payload = json.dumps({"args": [], "kwargs": arguments})
    size, limit = len(payload.encode()), backend.config.max_payload
    if size > limit:
        what = "the arguments as a message"
        raise PayloadTooLarge(what=what, size=size, limit=limit, task_path=message.name)
    return NewJob(
        id=message.job_id or new_job_id(),
        task_path=PUBLISH,
        payload=payload,
        backend=backend.alias,
        queue=_queue(message, key),
        max_attempts=MAX_ATTEMPTS,
        meta={
            "broker": message.broker,
            "message_id": message.message_id,
            "size": size,
            **meta,
        },
    )


def _queue(message: Message, key: str | None) -> str:
    return queue_of(message.broker) if key is None else queue_in_order(message.broker)


def relaying() -> list[DatabaseBackend]:
    """Return the aftercommit backends in TASKS whose OPTIONS have a ``relay``."""
    return [backend for backend in our_backends() if backend.config.relay]


def backends_keeping(broker: str) -> dict[str, DatabaseBackend]:
    """Return the backends that store a broker's messages, by database alias."""
    return {one.using: one for one in reversed(relaying()) if broker in one.config.relay}


def _when(backends: Mapping[str, DatabaseBackend]) -> str:
    return next((one.config.relay_when for one in backends.values()), IN_TRANSACTION)


def _usual_alias(backends: Mapping[str, DatabaseBackend]) -> str:
    usual = default_alias()
    return usual if usual in backends else next(iter(backends))


def _chosen(
    opened: list[str], backends: Mapping[str, DatabaseBackend], broker: str
) -> str | None:
    possible = [alias for alias in opened if alias in backends]
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
            "Transactions are open on %s; a message for %s is sent when the transaction on %s "
            "commits, even if another one rolls back.",
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
