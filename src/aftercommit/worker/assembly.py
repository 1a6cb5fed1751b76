"""Builds the components that serve one database alias, the same for every kind of worker."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from uuid import UUID

from aftercommit.enqueue.group_results import group_of
from aftercommit.enqueue.retention import retention_of
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.facts import Catalogue, GroupRunner, TaskFacts
from aftercommit.worker.held import Runs
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.running.atomic.shared import SharedTransactions
from aftercommit.worker.running.batches import Batches
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.upkeep.announcer import Announcer
from aftercommit.worker.upkeep.finisher import Ends, Finisher
from aftercommit.worker.upkeep.graphs import WaitingJobs
from aftercommit.worker.upkeep.heartbeat import Heartbeat
from aftercommit.worker.upkeep.limits import Passage
from aftercommit.worker.upkeep.notes import NotesWriter
from aftercommit.worker.upkeep.presence import OwnPresence
from aftercommit.worker.upkeep.pruner import Pruner
from aftercommit.worker.upkeep.rates import RatePassage
from aftercommit.worker.upkeep.replicas import begin_reads
from aftercommit.worker.upkeep.requests import Requests
from aftercommit.worker.upkeep.rescuer import Rescuer
from aftercommit.worker.upkeep.schedules import Scheduler
from aftercommit.worker.upkeep.statistics import RunCounter


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """The components that one worker process uses for one database alias."""

    store: Store
    leases: Leases
    runs: Runs
    catalogue: Catalogue
    crashed: CrashedJobs
    announcer: Announcer
    fetcher: Fetcher
    executor: Executor
    finisher: Finisher
    heartbeat: Heartbeat
    presence: OwnPresence
    requests: Requests
    pruner: Pruner
    rescuer: Rescuer
    rules: RulesInForce
    passage: Passage
    rates: RatePassage
    notes: NotesWriter
    waiting: WaitingJobs
    scheduler: Scheduler
    statistics: RunCounter

    def let_pass(self) -> timedelta:
        """Let jobs pass that wait for a slot, their rate or others; return when to look again."""
        return min(self.passage.step(), self.rates.step(), self.waiting.step())

    def let_pass_and_schedule(self) -> timedelta:
        """Do that, and make the jobs of periodic tasks that are due."""
        return min(self.let_pass(), self.scheduler.step())


def assemble(
    served: Served,
    *,
    worker_id: UUID,
    threads: int = 1,
    news: Callable[[], None] = lambda: None,
    asked: Callable[[], None] = lambda: None,
    recorded: Callable[[Ends], None] = lambda _ends: None,
) -> Rooms:
    """Build the components of the worker process ``worker_id`` for an alias.

    ``threads``: jobs that it runs at once, to be shown.
    ``news`` is called when new jobs may be due, ``asked`` when running jobs of this process
    may have been asked to stop, ``recorded`` when results of runs are in
    the table; each in the thread of the component that notices it.
    """
    options = served.options
    store = store_for(served.using)
    leases = Leases()
    runs = Runs(leases, lease=options.lease)
    announcer = Announcer(store)
    rules = RulesInForce(store, served.queue_limits, served.queue_rates)
    passage, rates = Passage(store, rules, news=news), RatePassage(store, rules, news=news)
    statistics = RunCounter(store, every=options.heartbeat, enabled=options.statistics)
    executor = Executor(
        using=served.using,
        record=store.finish,
        starts=announcer,
        pause_rate=rates.pauses.ask,
        find_group=partial(group_of, using=served.using),
        keeper=(notes := NotesWriter(store)),
        begin_reads=begin_reads(store),
    )
    crashed = CrashedJobs(store, served, rules)
    catalogue = Catalogue(_groups(executor, store))
    scheduler = Scheduler(store, news=news, ticked=statistics.ticked)

    def heard() -> None:
        requests.heard()
        asked()

    def told() -> None:
        fetcher.lines.told()
        news()

    presence = OwnPresence(
        store,
        worker_id=worker_id,
        session_locks=options.session_locks,
        threads=threads,
        news=told,
        asked=heard,
        rules_changed=_each(rules.expire, scheduler.look_soon),
    )
    requests = Requests(store, runs, notified=lambda: presence.tells)
    fetcher = Fetcher(
        store,
        served,
        crashed,
        leases,
        rules,
        worker_id=worker_id,
        facts_of=catalogue.facts_of,
        line_met=rates.line_met,
    )

    _tell_of_changes(rules, fetcher, passage, rates)

    return Rooms(
        store=store,
        leases=leases,
        runs=runs,
        catalogue=catalogue,
        crashed=crashed,
        announcer=announcer,
        fetcher=fetcher,
        executor=executor,
        finisher=Finisher(
            store,
            runs,
            announcer,
            recorded=_each(statistics.ended, recorded),
            write_first=_before_outcomes(rates, notes),
        ),
        notes=notes,
        heartbeat=Heartbeat(
            store, runs, leases, lease=options.lease, heartbeat=options.heartbeat
        ),
        presence=presence,
        requests=requests,
        pruner=Pruner(
            store,
            retention_of(served.using),
            worker_id=worker_id,
            silence=options.lease,
            pruned=statistics.pruned,
        ),
        passage=passage,
        rates=rates,
        waiting=WaitingJobs(store, news=news),
        scheduler=scheduler,
        statistics=statistics,
        rescuer=Rescuer(
            store,
            options,
            crashed,
            worker_id=worker_id,
            rescued=_each(announcer.rescued, lambda _one: news()),
            forgotten=presence.announce_again,
            trusts_locks=lambda: not presence.pooled,
        ),
        rules=rules,
    )


def _tell_of_changes(
    rules: RulesInForce, fetcher: Fetcher, passage: Passage, rates: RatePassage
) -> None:
    rules.limits_changed = passage.limits_changed
    rules.rates_changed = _each(fetcher.closed.rates_changed, rates.rates_changed)


def _before_outcomes(rates: RatePassage, notes: NotesWriter) -> Callable[[Ends], None]:
    """Return a function that writes what must be in the table before outcomes are."""

    def write(batch: Ends) -> None:
        rates.pauses.write()
        notes.before_outcomes(batch)

    return write


def _each(*calls: Callable[..., object]) -> Callable[..., None]:
    """Return a function that calls all of them with what it is given."""

    def call(*given: object) -> None:
        for one in calls:
            one(*given)

    return call


def _groups(executor: Executor, store: Store) -> Callable[[TaskFacts], GroupRunner | None]:
    """Return a function: the group runner of a task, or None if it runs job by job."""
    batches = Batches(executor, store)
    shared = SharedTransactions(executor, store)

    def group_of(facts: TaskFacts) -> GroupRunner | None:
        if facts.batch is not None:
            return batches
        # Middleware stands outside the transaction of its run, so that transaction is its own.
        alone = facts.middleware is not None or not facts.policy.fuse
        return shared if facts.policy.atomic and not alone else None

    return group_of
