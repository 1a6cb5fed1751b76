"""The relay: messages for brokers are jobs, and this is the task that publishes them."""

import logging
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.utils import timezone

from aftercommit import events, relayed
from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.batches import BatchCall, End
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.outcomes import Snooze
from aftercommit.enqueue.task import BuiltInTask
from aftercommit.errors import ClaimLost, ConfigurationError, TimedOut
from aftercommit.options.queues import queue_in_order, queue_of, queues_of
from aftercommit.relay.brokers import broker_for, check_options
from aftercommit.relay.brokers.base import Away, Report, TooEarly
from aftercommit.relay.outbox import MAX_ATTEMPTS, PUBLISH, Outbox, backends_keeping, relaying
from aftercommit.worker.claiming.broker_backoff import back_off, is_backing_off, resume
from aftercommit.worker.claiming.broker_share import call_to
from aftercommit.worker.in_flight import MOST

if TYPE_CHECKING:
    from aftercommit.models import Job
    from aftercommit.store.base import Store

logger = logging.getLogger("aftercommit")

FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=500), timedelta(seconds=5)
SHORTLY = timedelta(milliseconds=50)
SOON = timedelta(milliseconds=500)  # when other threads publish to the broker already
DEADLINE = timedelta(seconds=35)  # of a call; a broker that does not answer ends it before

_in_vain: Counter[str] = Counter()  # failed attempts in a row, by broker
_lock = threading.Lock()


def publish(calls: Sequence[BatchCall]) -> None:
    """Publish captured messages; see ``publish_many``. Each ends as soon as it is published."""

    def report(number: int, error: BaseException | None, value: Any = None) -> None:
        calls[number].end = End(error, value)

    publish_many([call.kwargs for call in calls], report)
    for call in calls:
        if call.end is None:
            call.fail(RuntimeError("the relay did not report how this message ended"))


def publish_many(calls: Sequence[dict[str, Any]], report: Report) -> None:
    """Publish captured messages; those with the same ordering key in their order.

    While a broker does not answer, its messages wait without a limit, and no attempt counts.
    """
    readable = {number: call for number, call in enumerate(calls) if _is_readable(call)}
    for number in range(len(calls)):
        if number not in readable:
            report(number, ValueError("This row holds no message that the relay can read."))
    for broker in dict.fromkeys(call["broker"] for call in readable.values()):
        left = {number: call for number, call in readable.items() if call["broker"] == broker}

        def ended(
            number: int,
            error: BaseException | None,
            value: Any = None,
            *,
            left: dict[int, Any] = left,
        ) -> None:
            del left[number]
            report(number, Snooze(SHORTLY) if isinstance(error, TooEarly) else error, value)

        try:
            _publish(broker, left, ended)
        except Exception as error:
            for number in list(left):
                ended(number, error)


def _is_readable(call: Mapping[str, Any]) -> bool:
    """Return whether a row, which anybody may have written, can be taken for a message."""
    key = call.get("ordering_key")
    return (
        isinstance(call.get("broker"), str)
        and isinstance(call.get("message_id"), str)
        and isinstance(call.get("content"), dict)
        and (key is None or isinstance(key, str))
    )


def _publish(broker: str, left: Mapping[int, dict[str, Any]], ended: Report) -> None:
    """Publish to one broker; an exception is the end of the messages that are left then."""
    if not backends_keeping(broker):  # a row may name anything: nothing is imported for it
        raise ConfigurationError(
            f"A message is for {broker!r}, which no OPTIONS['relay'] names.\n"
            "It is not published, and ends as failed.\n"
            "Fix: name the library there, then retry the message."
        )
    if is_backing_off(queue_of(broker)):
        raise Snooze(_pause_after(_in_vain[broker]))
    with call_to(queues_of(broker)) as may:
        if not may:
            raise Snooze(SOON)
        _publish_now(broker, left, ended)


def _publish_now(broker: str, left: Mapping[int, dict[str, Any]], ended: Report) -> None:
    began = time.monotonic()
    try:
        free = [one for one, call in left.items() if call.get("ordering_key") is None]
        if free:
            _hand_over(broker, free, left, ended)
        if left:
            _hand_over_in_order(broker, left, ended)
    except (Away, TimedOut) as error:  # after the backend's timeout it is away, too
        waited = timedelta(seconds=time.monotonic() - began)
        raise Snooze(_note_away(broker, error, waited)) from error
    if _in_vain.pop(broker, 0):
        for queue in queues_of(broker):
            resume(queue)
        logger.warning("%s answers again", broker)


def _hand_over(
    broker: str, numbers: Sequence[int], left: Mapping[int, dict[str, Any]], ended: Report
) -> None:
    """Publish together; if that fails, one by one, so that one bad message fails alone."""
    library = broker_for(broker)
    contents = {number: left[number]["content"] for number in numbers}
    try:
        library.publish_many(contents, ended)
    except (Away, ClaimLost):
        raise
    except Exception as error:
        logger.info("Messages for %s are now published one by one (%s)", broker, error)
        library.publish_each({one: contents[one] for one in numbers if one in left}, ended)


def _hand_over_in_order(broker: str, left: Mapping[int, dict[str, Any]], ended: Report) -> None:
    """Publish the first message of each key, then the second, until one is not published."""
    keys = {number: call["ordering_key"] for number, call in left.items()}
    lines, waits = _lines(broker, left)

    def reported(number: int, error: BaseException | None, value: Any = None) -> None:
        if error is not None:
            lines[keys[number]].clear()
        ended(number, error, value)

    while heads := [line.popleft() for line in lines.values() if line]:
        _hand_over(broker, heads, left, reported)
    for number in list(left):
        ended(number, Snooze(waits.get(keys[number], SHORTLY)))


def _lines(
    broker: str, left: Mapping[int, dict[str, Any]]
) -> tuple[dict[str, deque[int]], dict[str, timedelta]]:
    """Return, for each key, the messages that do not wait for a message of another call.

    With how long the others of a key have to wait at least: until the one before them is due.
    """
    names = {(call["ordering_key"], call["message_id"]): one for one, call in left.items()}
    lines: dict[str, deque[int]] = {key: deque() for key, _message_id in names}
    waits: dict[str, timedelta] = {}
    for backend in backends_keeping(broker).values():
        queue, others = queue_in_order(broker), set()
        for key, message_id, due in _oldest(backend.store, queue, names.keys()):
            if (key, message_id) not in names:
                others.add(key)
                wait = min(max(due - timezone.now(), SHORTLY), LONGEST_PAUSE)
                waits.setdefault(key, wait)
            elif key not in others:
                lines[key].append(names[key, message_id])
    return lines, waits


def _oldest(
    store: "Store", queue: str, wanted: Set[tuple[str, str]]
) -> Sequence[tuple[str, str, datetime]]:
    """Return the oldest messages of the keys of these; as many as there are before the last.

    A key may have a backlog of thousands, and usually the claimed messages are its oldest.
    """
    keys, limit = {key for key, _message_id in wanted}, len(wanted)
    while True:
        found = store.messages_in_order(queue, keys, limit=limit, backends=_backend_names())
        if len(found) < limit or wanted <= {one[:2] for one in found}:
            return found
        limit *= 2


def _note_away(broker: str, error: BaseException, waited: timedelta) -> timedelta:
    with _lock:  # several threads notice the outage at the same time
        tries = _in_vain[broker]
        _in_vain[broker] += 1
    if not tries:
        # Only the class: a driver's message may contain the address and the user.
        why = type(error.__cause__ or error).__name__
        logger.warning("%s does not answer (%s); its messages wait", broker, why)
    # A thread that waits for a silent broker has at least as much time for other jobs.
    span = max(_pause_after(tries), waited)
    for queue in queues_of(broker):
        back_off(queue, span)
    return span


def _pause_after(tries: int) -> timedelta:
    longest = min(FIRST_PAUSE * 2.0 ** min(tries, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1)  # noqa: S311


def publish_task(backend: DatabaseBackend) -> BuiltInTask:
    """Return the task that publishes, on this backend; a worker finds it by its path."""
    return BuiltInTask(
        path=PUBLISH,
        func=publish,
        batch_size=MOST,
        backend=backend.alias,
        queue_name=next(iter(sorted(backend.queues)), "default"),  # its jobs are in other queues
        priority=0,
        run_after=None,
        takes_context=False,
        atomic=False,
        max_attempts=MAX_ATTEMPTS,
        timeout=min(backend.config.timeout or DEADLINE, DEADLINE),
    )


_installed: set[str] = set()


def install() -> None:
    """Capture the messages of every library that OPTIONS['relay'] names; once."""
    outbox = Outbox()
    for backend in relaying():
        publish_task(backend)
        for name, options in backend.config.libraries.items():
            broker = broker_for(name)
            check_options(name, options)
            broker.options = options
            broker.is_kept = partial(_is_kept, name)
            broker.find = partial(_find, name)
            broker.others = _others
            if name not in _installed:
                _installed.add(name)
                broker.capture(outbox)
                relayed.register(name, partial(outbox.would_keep, name))
                events.worker_stopped.connect(_close, dispatch_uid="aftercommit.relay.publish")


def _is_kept(broker: str, message_id: str) -> bool:
    stores = [one.store for one in backends_keeping(broker).values()]
    queues = queues_of(broker)
    return any(
        store.has_message(one, message_id, backends=_backend_names())
        for store in stores
        for one in queues
    )


def _backend_names() -> list[str]:
    return [backend.alias for backend in our_backends()]


def _find(broker: str, job_id: str) -> "Job | None":
    """Return the job of a message of that broker, or None."""
    with suppress(ValueError):
        found = (one.store.job(UUID(job_id)) for one in backends_keeping(broker).values())
        queues = queues_of(broker)
        return next((job for job in found if job is not None and job.queue in queues), None)
    return None


def _others() -> list[str]:
    """Return the aliases in TASKS of other libraries' backends."""
    aliases = task_backends.settings
    return [one for one in aliases if not isinstance(task_backends[one], DatabaseBackend)]


def _close(**_: object) -> None:
    for name in _installed:
        broker_for(name).close()
