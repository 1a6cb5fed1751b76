"""Builds the components that serve one database alias, the same for every kind of worker."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from aftercommit.enqueue.retention import retention_of
from aftercommit.store import store_for
from aftercommit.store.base import Rescued, Store
from aftercommit.values import RunResult
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.facts import Catalogue, GroupRunner, TaskFacts
from aftercommit.worker.held import Runs
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.running.atomic.shared import SharedTransactions
from aftercommit.worker.running.batch_task import BatchTasks
from aftercommit.worker.running.executor import Executor
from aftercommit.worker.runs import Run
from aftercommit.worker.upkeep.announcer import Announcer
from aftercommit.worker.upkeep.finisher import Finisher
from aftercommit.worker.upkeep.heartbeat import Heartbeat
from aftercommit.worker.upkeep.limits import Passage
from aftercommit.worker.upkeep.presence import OwnPresence
from aftercommit.worker.upkeep.pruner import Pruner
from aftercommit.worker.upkeep.rates import RatePassage
from aftercommit.worker.upkeep.requests import Requests
from aftercommit.worker.upkeep.rescuer import Rescuer


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

    def let_pass(self) -> timedelta:
        """Let jobs pass that wait for a slot or their rate; return when to look again."""
        return min(self.passage.step(), self.rates.step())


def assemble(
    served: Served,
    *,
    worker_id: UUID,
    news: Callable[[], None] = lambda: None,
    asked: Callable[[], None] = lambda: None,
    recorded: Callable[[Run, RunResult], None] = lambda _run, _result: None,
) -> Rooms:
    """Build the components of the worker process ``worker_id`` for an alias.

    ``news`` is called when new jobs may be due, ``asked`` when running jobs of this process
    may have been asked to stop, ``recorded`` when the result of a run is in
    the table; each in the thread of the component that notices it.
    """
    options = served.options
    store = store_for(served.using)
    leases = Leases()
    runs = Runs(leases, lease=options.lease)
    announcer = Announcer(store)
    rates = RatePassage(store, news=news)
    executor = Executor(
        using=served.using,
        record=store.finish,
        started=announcer.started,
        heard=announcer.start_is_heard,
        pause_rate=rates.pauses.ask,
    )
    rules = RulesInForce(store, served.queue_limits)
    passage = Passage(store, rules, news=news)
    rules.limits_changed = passage.limits_changed
    crashed = CrashedJobs(store, served, rules)
    catalogue = Catalogue(_groups(executor, store))

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
        news=told,
        asked=heard,
        rules_changed=rules.expire,
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

    def rescued(one: Rescued) -> None:
        announcer.rescued(one)
        news()

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
            store, runs, announcer, recorded=recorded, write_first=rates.pauses.write
        ),
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
        ),
        passage=passage,
        rates=rates,
        rescuer=Rescuer(
            store,
            options,
            crashed,
            worker_id=worker_id,
            rescued=rescued,
            forgotten=presence.announce_again,
            trusts_locks=lambda: not presence.pooled,
        ),
        rules=rules,
    )


def _groups(executor: Executor, store: Store) -> Callable[[TaskFacts], GroupRunner | None]:
    """Return a function: the group runner of a task, or None if it runs job by job."""
    batches = BatchTasks(executor)
    shared = SharedTransactions(executor, store)

    def group_of(facts: TaskFacts) -> GroupRunner | None:
        if facts.many is not None:
            return batches
        return shared if facts.policy.atomic and facts.policy.fuse else None

    return group_of
