"""Pause and resume a queue, a task or the messages for a broker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from aftercommit.enqueue.versions import versions_of
from aftercommit.errors import ConfigurationError, NothingToPause
from aftercommit.queues.named import Answer, Named, aliases
from aftercommit.store import store_for
from aftercommit.values import TASK

if TYPE_CHECKING:
    from aftercommit.store.base import Store

LONGEST_NOTE = 255  # characters, as in the columns


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
    named = Named.of(queue, task, broker, using=using, unknown=NothingToPause)
    for text in (by, why):
        _check_note(text)
    named.must_exist()
    changed = named.change(lambda store, name: store.pause(named.kind, name, by=by, why=why))
    return Answer(changed=changed, unused=named.unused)


def resume(
    queue: str | None = None,
    *,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """End a pause; workers claim again within a second of the commit.

    Of a task with a rate, also what ``context.rate_limited_until()`` has paused; jobs that wait
    for that start within a minute.
    Raises ``NothingToPause`` for what ``pause()`` would refuse, if it is not paused.
    """
    named = Named.of(queue, task, broker, using=using, unknown=NothingToPause)
    changed = named.change(lambda store, name: _resume(store, named.kind, name))
    return named.undone(changed)


def _resume(store: "Store", kind: str, name: str) -> bool:
    ended = store.end_rate_pauses(versions_of(name)) if kind == TASK else 0
    return store.resume(kind, name) or ended > 0


def paused(using: str | None = None) -> Sequence[Paused]:
    """Return what is paused now, by database and name."""
    return [one for alias in aliases(using) for one in paused_in(alias)]


def paused_in(alias: str) -> Iterator[Paused]:
    """Yield what is paused in a database."""
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


def _check_note(text: object) -> None:
    if not isinstance(text, str) or len(text) > LONGEST_NOTE or not (text + " ").isprintable():
        raise ConfigurationError(
            "by and why of a pause: expected a line of text, printable and of at most "
            f"{LONGEST_NOTE} characters."
        )
