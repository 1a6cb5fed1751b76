"""What operators may do about queues and tasks while workers run: pause, resume, list.

The commands and the admin's page call these functions, and so may your code.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches

from aftercommit.enqueue.called import declared_task, load_tasks, stored_names
from aftercommit.enqueue.configured import job_aliases, our_backends
from aftercommit.enqueue.names import LONGEST_TASK_PATH, OURS
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import ConfigurationError, NothingToPause
from aftercommit.options.queues import IN_ORDER, QUEUE_PREFIX, is_queue_name, queues_of
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK

LONGEST_NOTE = 255  # characters, as in the columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What ``pause()`` or ``resume()`` has done."""

    changed: Sequence[tuple[str, str]]  # databases and names that were not so before
    unused: bool = False  # no job is there, and nothing that is known here enqueues one


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """A queue or a task of which no job is claimed in a database until it is resumed."""

    using: str
    kind: str  # queue or task
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
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
    by: str = "",
    why: str = "",
) -> Answer:
    """Let no worker claim jobs of a queue or a task, or messages for a broker.

    Jobs that run go on, and jobs may be enqueued; they wait for ``resume()``. Workers follow
    within a second of the commit: in a transaction of the caller, the change is part of it.
    ``task``: a task or its path. ``using``: a database alias; None: all that hold jobs. ``by``
    and ``why`` are shown to others.

    Raises ``NothingToPause`` for a broker that no backend relays to, for a task that nobody has
    declared, and for a queue that is not in QUEUES where every backend has them.
    """
    kind, names = _named(queue, task, broker)
    for text in (by, why):
        _check_note(text)
    aliases = _aliases(using)
    if kind == TASK:
        _check_task(names[0])
    elif broker is None and not _may_be_used(names, aliases):
        known = {name for backend in our_backends() for name in backend.queues}
        raise NothingToPause(what=f"queue {queue!r}", known=known)
    changed = [
        (alias, name)
        for alias in aliases
        for name in names
        if store_for(alias).pause(kind, name, by=by, why=why)
    ]
    unused = kind == QUEUE and broker is None and not _is_used(names, aliases)
    return Answer(changed=changed, unused=unused)


def resume(
    queue: str | None = None,
    *,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """End a pause; workers claim again within a second of the commit."""
    kind, names = _named(queue, task, broker)
    changed = [
        (alias, name)
        for alias in _aliases(using)
        for name in names
        if store_for(alias).resume(kind, name)
    ]
    return Answer(changed=changed)


def paused(using: str | None = None) -> Sequence[Paused]:
    """Return what is paused now, by database and name."""
    return [one for alias in _aliases(using) for one in _paused_in(alias)]


def list(using: str | None = None) -> Sequence[Queue]:
    """Return the queues that are in QUEUES, have jobs that wait, or are paused."""
    return [one for alias in _aliases(using) for one in _queues_in(alias)]


def _queues_in(alias: str) -> Iterator[Queue]:
    pauses = {one.name: one for one in _paused_in(alias) if one.kind == QUEUE}
    for name in sorted({*_configured(alias), *store_for(alias).queues(), *pauses}):
        yield Queue(using=alias, name=name, pause=pauses.get(name))


def _paused_in(alias: str) -> Iterator[Paused]:
    for one in sorted(store_for(alias).pauses()):
        yield Paused(
            using=alias,
            kind=one.kind,
            name=one.name,
            since=one.since,
            by=one.by,
            why=one.why,
            details=one.details,
        )


def _named(queue: str | None, task: object, broker: str | None) -> tuple[str, Sequence[str]]:
    """Return what is meant: a broker has two queues, and they are paused together."""
    if [queue, task, broker].count(None) != 2:  # noqa: PLR2004 - of three, one is given
        raise ConfigurationError("Name a queue, a task or a broker, and one of them only.")
    if task is not None:
        return TASK, stored_names(_path(task))
    if queue is not None and not is_queue_name(queue):
        raise ConfigurationError(f"A queue cannot be called {queue!r}.")
    if queue is not None and queue.startswith(QUEUE_PREFIX):
        broker = queue.removeprefix(QUEUE_PREFIX).removesuffix(IN_ORDER)
    if broker is None:
        return QUEUE, [str(queue)]
    known = {name for backend in our_backends() for name in backend.config.libraries}
    if broker not in known:
        raise NothingToPause(what=f"relay to {broker!r}", known=known)
    return QUEUE, queues_of(broker)


def _path(task: object) -> str:
    path = getattr(task, "module_path", task)
    if not isinstance(path, str) or len(path) > LONGEST_TASK_PATH:
        raise ConfigurationError(f"Expected a task or its path, got {type(task).__name__}.")
    if path.startswith(OURS):
        raise ConfigurationError(
            f"{path} is no task of the project: it publishes messages, or calls the functions of "
            "schedule(). Pause the broker, or the queue."
        )
    return path


def _check_task(path: str) -> None:
    if declared_task(path) is None:
        declared = [task.module_path for task in declared_tasks()]
        alike = get_close_matches(path, [one for one in declared if not one.startswith(OURS)])
        raise NothingToPause(what=f"task {path!r}", known=alike)


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
    load_tasks()
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
