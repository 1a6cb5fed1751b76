"""What operators may do about queues while workers run: pause, resume, list.

The commands and the admin's page call these functions, and so may your code.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from aftercommit.enqueue.configured import job_aliases, our_backends
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import ConfigurationError, NothingToPause
from aftercommit.options.queues import IN_ORDER, QUEUE_PREFIX, is_queue_name, queues_of
from aftercommit.store import store_for
from aftercommit.values import QUEUE

LONGEST_NOTE = 255  # characters, as in the columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ``pause()`` or ``resume()`` has done."""

    changed: Sequence[tuple[str, str]]  # databases and names that were not so before
    unused: bool = False  # no job is there, and nothing that is known here enqueues one


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A queue of which no job is claimed in a database until it is resumed."""

    using: str
    name: str
    since: datetime
    by: str
    why: str
    details: str  # the same as a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """A queue of a database: in QUEUES of a backend, with jobs, or paused."""

    using: str
    name: str
    pause: Paused | None = None


def pause(
    queue: str | None = None,
    *,
    broker: str | None = None,
    using: str | None = None,
    by: str = "",
    why: str = "",
) -> Answer:
    """Let no worker claim jobs of a queue, or messages for a broker, until ``resume()``.

    Jobs that run go on, and jobs may be enqueued; they wait. Workers follow within a second of
    the commit: in a transaction of the caller, the change is part of it. ``using``: a database
    alias; None: all that hold jobs. ``by`` and ``why`` are shown to others.

    Raises ``NothingToPause`` for a broker that no backend relays to, and for a queue that is not
    in QUEUES where every backend has them.
    """
    names = _names(queue, broker)
    for text in (by, why):
        _check_note(text)
    aliases = _aliases(using)
    if broker is None and not _may_be_used(names, aliases):
        known = {name for backend in our_backends() for name in backend.queues}
        raise NothingToPause(what=f"queue {queue!r}", known=known)
    changed = [
        (alias, name)
        for alias in aliases
        for name in names
        if store_for(alias).pause(QUEUE, name, by=by, why=why)
    ]
    return Answer(changed=changed, unused=broker is None and not _is_used(names, aliases))


def resume(
    queue: str | None = None, *, broker: str | None = None, using: str | None = None
) -> Answer:
    """End a pause; workers claim again within a second of the commit."""
    names, aliases = _names(queue, broker), _aliases(using)
    changed = [
        (alias, name)
        for alias in aliases
        for name in names
        if store_for(alias).resume(QUEUE, name)
    ]
    return Answer(changed=changed)


def paused(using: str | None = None) -> Sequence[Paused]:
    """Return what is paused now, by database and name."""
    return [one for alias in _aliases(using) for one in _paused_in(alias)]


def list(using: str | None = None) -> Sequence[Queue]:
    """Return the queues that are in QUEUES, have jobs that wait, or are paused."""
    return [one for alias in _aliases(using) for one in _queues_in(alias)]


def _queues_in(alias: str) -> Iterator[Queue]:
    pauses = {one.name: one for one in _paused_in(alias)}
    for name in sorted({*_configured(alias), *store_for(alias).queues(), *pauses}):
        yield Queue(using=alias, name=name, pause=pauses.get(name))


def _paused_in(alias: str) -> Iterator[Paused]:
    for one in sorted(store_for(alias).pauses() or ()):
        yield Paused(
            using=alias,
            name=one.name,
            since=one.since,
            by=one.by,
            why=one.why,
            details=one.details,
        )


def _names(queue: str | None, broker: str | None) -> Sequence[str]:
    """Return the queues that are meant: a broker has two, and they are paused together."""
    if (queue is None) == (broker is None):
        raise ConfigurationError("Name a queue or a broker, and one of them only.")
    if queue is not None and not is_queue_name(queue):
        raise ConfigurationError(f"A queue cannot be called {queue!r}.")
    if queue is not None and queue.startswith(QUEUE_PREFIX):
        broker = queue.removeprefix(QUEUE_PREFIX).removesuffix(IN_ORDER)
    if broker is None:
        return [str(queue)]
    known = {name for backend in our_backends() for name in backend.config.libraries}
    if broker not in known:
        raise NothingToPause(what=f"relay to {broker!r}", known=known)
    return queues_of(broker)


def _aliases(using: str | None) -> Sequence[str]:
    known = job_aliases()
    if using is None:
        return known
    if using not in known:
        raise ConfigurationError(
            f"No backend of TASKS keeps jobs in the database {using!r}; "
            f"there are: {', '.join(known) or 'none'}."
        )
    return [using]


def _may_be_used(names: Sequence[str], aliases: Sequence[str]) -> bool:
    """Return whether a backend accepts jobs for the queue, or there are jobs of before."""
    backends = [one for one in our_backends() if one.using in aliases]
    if any(not one.queues or not one.queues.isdisjoint(names) for one in backends):
        return True
    return names[0].startswith(QUEUE_PREFIX) or _has_jobs(names, aliases)


def _is_used(names: Sequence[str], aliases: Sequence[str]) -> bool:
    for backend in our_backends():
        with suppress(ConfigurationError):  # of a module that cannot be imported here
            discover(backend.config.task_modules)
    known = {name for alias in aliases for name in _configured(alias)}
    known |= {task.queue_name for task in declared_tasks()}
    return not known.isdisjoint(names) or _has_jobs(names, aliases)


def _has_jobs(names: Sequence[str], aliases: Sequence[str]) -> bool:
    return any(not {*store_for(alias).queues()}.isdisjoint(names) for alias in aliases)


def _configured(alias: str) -> set[str]:
    here = [one for one in our_backends() if one.using == alias]
    brokers = {name for one in here for name in one.config.libraries}
    relayed = {queue for name in brokers for queue in queues_of(name)}
    return relayed.union(*(one.queues for one in here))


def _check_note(text: object) -> None:
    if not isinstance(text, str) or len(text) > LONGEST_NOTE or not (text + " ").isprintable():
        raise ConfigurationError(
            "by and why of a pause: expected a line of text, printable and of at most "
            f"{LONGEST_NOTE} characters."
        )
