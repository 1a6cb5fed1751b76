"""Limit how often jobs of a queue or a task start, or messages for a broker."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aftercommit.enqueue.called import declared_task
from aftercommit.enqueue.configured import queue_rates
from aftercommit.enqueue.rates import rate_of
from aftercommit.enqueue.registry import option
from aftercommit.errors import ConfigurationError, NothingToLimit
from aftercommit.gcra import Rate
from aftercommit.options.rate import stored_rate, text_of
from aftercommit.queues.named import Answer, Named, aliases
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK


@dataclass(frozen=True, slots=True, kw_only=True)
class Rated:
    """A rate that holds in a database: of a queue, or of a task that has one at run time."""

    using: str
    kind: str  # queue or task
    name: str
    rate: str  # starts in a time, as "60/m"
    burst: int  # starts at once
    at_run_time: bool  # set by rate(), and so until unrate()
    configured: str | None  # the rate that code or settings say; None: none

    @property
    def details(self) -> str:
        """The same as a sentence."""
        starts = f"{self.rate} started"
        starts += f", {self.burst:,} at once" if self.burst > 1 else ""
        if not self.at_run_time:
            return starts
        return f"{starts}, set at run time (else {self.configured or 'no rate'})"


def rate(
    queue: str | None = None,
    rate: str | None = None,
    *,
    burst: int = 1,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """Let jobs of a queue or a task start so often, or messages be published.

    ``rate``: starts in a time, as ``"60/m"``, ``"10/30s"``; ``burst``: how many start at once
    after a while without starts. Over all workers of all machines, until ``unrate()``, whatever
    code and settings say. Workers follow within a second of the commit: in a transaction of the
    caller, the change is part of it. Of a task with ``rate_by``, each key has this rate.
    ``task``: a task or its path. ``using``: a database alias; None: all that hold jobs.

    Raises ``ConfigurationError`` for what is no rate, and ``NothingToLimit`` for a broker that
    no backend relays to, for a task that nobody has declared, and for a queue that is not in
    QUEUES where every backend has them.
    """
    if rate is None:
        raise ConfigurationError(
            "Say how often jobs may start: rate='60/m'. To let code and settings say it again, "
            "call unrate()."
        )
    stored = stored_rate(rate, burst)
    named = Named.of(queue, task, broker, using=using, unknown=NothingToLimit)
    named.must_exist()
    if named.kind == TASK and option(declared_task(named.names[0]), "ordered"):
        raise ConfigurationError(
            f"{named.names[0]} has ordered=True, which cannot be combined with a rate: a job "
            "that waits for its rate would have to hold up all others of its key."
        )
    changed = named.change(lambda store, name: store.rate(named.kind, name, stored))
    return Answer(changed=changed, unused=named.unused)


def unrate(
    queue: str | None = None,
    *,
    task: object = None,
    broker: str | None = None,
    using: str | None = None,
) -> Answer:
    """Let the rate in code or settings hold again, if there is one.

    Raises ``NothingToLimit`` for what ``rate()`` would refuse, if it has no rate of run time.
    """
    named = Named.of(queue, task, broker, using=using, unknown=NothingToLimit)
    changed = named.change(lambda store, name: store.unrate(named.kind, name))
    return named.undone(changed)


def rates(using: str | None = None) -> Sequence[Rated]:
    """Return the rates of queues, and those of tasks that were set at run time."""
    return [one for alias in aliases(using) for one in rates_in(alias)]


def rates_in(alias: str) -> Iterator[Rated]:
    """Yield the rates that hold in a database, by kind and name."""
    settings = {(QUEUE, name): one for name, one in queue_rates(alias).items()}
    given = {(one.kind, one.name): one for one in store_for(alias).rates()}
    for kind, name in sorted(settings.keys() | given.keys()):
        usual = settings.get((kind, name)) if kind == QUEUE else _declared(name)
        found = given.get((kind, name))
        holds = settings[kind, name] if found is None else found.rate
        yield Rated(
            using=alias,
            kind=kind,
            name=name,
            rate=text_of(holds) if found is None else found.text,
            burst=holds.burst,
            at_run_time=found is not None,
            configured=None if usual is None else text_of(usual),
        )


def _declared(name: str) -> Rate | None:
    return None if declared_task(name) is None else rate_of(name)
