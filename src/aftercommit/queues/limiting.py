"""Limit how many jobs of a queue or a task run at once, or messages for a broker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.configured import queue_limits
from aftercommit.enqueue.registry import option
from aftercommit.errors import ConfigurationError, NothingToLimit
from aftercommit.options.checked import check_counts
from aftercommit.queues.named import Answer, Named, aliases
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Limited:
    """A limit that holds in a database: of a queue, or of a task that is limited at run time."""

    using: str
    kind: str  # queue or task
    name: str
    limit: int  # jobs at once
    at_run_time: bool  # set by limit(), and so until unlimit()
    configured: int | None  # what code or settings say; None: no limit

    @property
    def details(self) -> str:
        """The same as a sentence."""
        jobs = f"{self.limit:,} {'job' if self.limit == 1 else 'jobs'} at once"
        if not self.at_run_time:
            return jobs
        usual = "no limit" if self.configured is None else f"{self.configured:,}"
        return f"{jobs}, set at run time (else {usual})"


def limit(
    queue: str | None = None,
    limit: int | None = None,
    *,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """Let so many jobs of a queue or a task run at once, or so many messages be published.

    Over all workers of all machines, until ``unlimit()``, whatever code and settings say. Jobs
    that run go on. Workers follow within a second of the commit: in a transaction of the caller,
    the change is part of it. Of a task with ``limit_by``, so many of each key run at once.
    ``task``: a task or its path. ``using``: a database alias; None: all that hold jobs.

    Raises ``NothingToLimit`` for a broker that no backend relays to, for a task that nobody has
    declared, and for a queue that is not in QUEUES where every backend has them.
    """
    _check(limit)
    named = Named.of(queue, task, broker, using=using, unknown=NothingToLimit)
    named.must_exist()
    if named.kind == TASK:
        _check_order(named.names[0], limit)
    changed = named.change(lambda store, name: store.limit(named.kind, name, int(limit or 0)))
    return Answer(changed=changed, unused=named.unused)


def unlimit(
    queue: str | None = None,
    *,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """Let the limit in code or settings hold again, if there is one.

    Raises ``NothingToLimit`` for what ``limit()`` would refuse, if it has no limit of run time.
    """
    named = Named.of(queue, task, broker, using=using, unknown=NothingToLimit)
    changed = named.change(lambda store, name: store.unlimit(named.kind, name))
    return named.undone(changed)


def limits(using: str | None = None) -> Sequence[Limited]:
    """Return the limits of queues, and those of tasks that were set at run time."""
    return [one for alias in aliases(using) for one in limits_in(alias)]


def limits_in(alias: str) -> Iterator[Limited]:
    """Yield the limits that hold in a database, by kind and name."""
    settings = {(QUEUE, name): most for name, most in queue_limits(alias).items()}
    given = {(one.kind, one.name): one.limit for one in store_for(alias).limits()}
    for kind, name in sorted(settings.keys() | given.keys()):
        usual = settings.get((kind, name)) if kind == QUEUE else _declared(name)
        yield Limited(
            using=alias,
            kind=kind,
            name=name,
            limit=given.get((kind, name)) or settings[kind, name],
            at_run_time=(kind, name) in given,
            configured=usual,
        )


def _declared(name: str) -> int | None:
    task = declared_task(name)
    found: int | None = None if task is None else option(task, "limit")
    return found


def _check(limit: int | None) -> None:
    if limit is None:
        raise ConfigurationError(
            "Say how many jobs may run at once: limit=10. To let code and settings say it again, "
            "call unlimit()."
        )
    if limit == 0:
        raise ConfigurationError(
            "limit=0 would let no job run, and nothing would show why. Pause it instead."
        )
    check_counts(limit=limit)


def _check_order(name: str, limit: int | None) -> None:
    task = declared_task(name)
    if option(task, "ordered") and limit != 1:
        raise ConfigurationError(
            f"{name} has ordered=True: its jobs run one after the other, and its limit stays 1."
        )
