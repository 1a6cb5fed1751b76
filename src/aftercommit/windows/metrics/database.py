"""What is in the databases of the jobs: depths, ages and totals, the same whoever asks."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from django.db import Error

from aftercommit import jobs
from aftercommit.enqueue.called import load_tasks
from aftercommit.enqueue.configured import declared_queues, job_aliases
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.relay.neglected import SEEN_WITHIN
from aftercommit.safe_log import log_error
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.store.statistics import Span
from aftercommit.tallies import (
    CLAIMED,
    ENDS,
    OTHER,
    PRUNED,
    RELEASED,
    RESCUED,
    RETRIED,
    TICKED,
    Key,
    Tally,
)
from aftercommit.windows.metrics import names
from aftercommit.windows.metrics.families import Families

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

MOST_TASKS, MOST_QUEUES = 200, 100  # that are labels; the others are one together
OF_RUNS = (*ENDS, RETRIED, RELEASED, RESCUED)
COUNTERS = {RETRIED: names.RETRIED, RELEASED: names.RELEASED, RESCUED: names.RESCUED}


def collect() -> "Iterator[Family]":
    """Yield the metrics of all databases with jobs; one that does not answer is down."""
    families = Families(names.OF_DATABASE)
    for using in job_aliases():
        try:
            _database(families, using)
        except Error as error:
            log_error("The metrics of database %r cannot be read", using, error=error)
            families.set(names.UP, using, value=0)
        else:
            families.set(names.UP, using, value=1)
    yield from families


def _database(families: Families, using: str) -> None:
    """Read everything, then add it: what is half read is not told."""
    store = store_for(using)
    ages = _ages(store)
    depths = jobs.counts(by="queue", using=using)
    states = jobs.counts(by="state", using=using)
    workers = store.workers.count_seen(within=SEEN_WITHIN)
    pruned_at = store.workers.last_pruned()[1]
    moment = store.next_moment()
    _now, kept = store.statistics(Span.TOTAL)

    for state, number in states.items():
        families.set(names.JOBS, using, state, value=number.jobs)
    _queues(families, using, depths, ages)
    families.set(names.WORKERS, using, value=workers)
    if pruned_at is not None:
        families.set(names.PRUNED_AT, using, value=pruned_at.timestamp())
    overdue = max(moment[1] - moment[0], timedelta(0)) if moment else timedelta(0)
    families.set(names.OVERDUE, using, value=overdue.total_seconds())
    sums: dict[Key, Tally] = {}
    for one in kept:
        sums.setdefault(one.key, Tally()).merge(one.tally)
    _totals(families, using, sums)


def _ages(store: Store) -> dict[str, timedelta]:
    found: dict[str, timedelta] = {}
    for one in store.heads():
        if one.age is not None:
            found[one.group.queue] = max(one.age, found.get(one.group.queue, one.age))
    return found


def _queues(
    families: Families,
    using: str,
    depths: Mapping[str, jobs.Depth],
    ages: Mapping[str, timedelta],
) -> None:
    declared = declared_queues(using)
    known = {*depths, *ages, *declared}
    label = _labels(known, declared, MOST_QUEUES)
    states: dict[tuple[str, str], int] = {}
    oldest: dict[str, float] = {}
    for name in sorted(known):
        age = ages.get(name, timedelta(0)).total_seconds()
        depth = depths.get(name)
        if name.startswith(QUEUE_PREFIX):
            broker = name.removeprefix(QUEUE_PREFIX)
            families.set(names.KEPT, using, broker, value=depth.ready if depth else 0)
            families.set(names.LAG, using, broker, value=age)
        oldest[label[name]] = max(age, oldest.get(label[name], 0.0))
        for state, number in _by_state(depth).items():
            pair = label[name], state
            states[pair] = states.get(pair, 0) + number
    for (name, state), number in states.items():
        families.set(names.QUEUE_JOBS, using, name, state, value=number)
    for name, age in oldest.items():
        families.set(names.OLDEST, using, name, value=age)


def _by_state(depth: jobs.Depth | None) -> dict[str, int]:
    one = depth or jobs.Depth(due=0, ready=0, running=0, at_least=False)
    return {
        "due": one.due,
        "later": one.ready - one.due,
        "running": one.running,
        "paused": one.paused,
        "limited": one.limited,
        "rated": one.rated,
        "waiting": one.waiting,
    }


def _totals(families: Families, using: str, sums: Mapping[Key, Tally]) -> None:
    load_tasks()
    declared = [one.module_path for one in declared_tasks()]
    task_of = _labels({key.task_path for key in sums}, declared, MOST_TASKS)
    queue_of = _labels({key.queue for key in sums}, declared_queues(using), MOST_QUEUES)
    by_key: dict[Key, int] = {}
    by_task: dict[str, Tally] = {}
    for key, tally in sums.items():
        labelled = Key(task_of[key.task_path], queue_of[key.queue], key.outcome)
        by_key[labelled] = by_key.get(labelled, 0) + tally.jobs
        if key.outcome in OF_RUNS:
            by_task.setdefault(labelled.task_path, Tally()).merge(tally)
        elif key.outcome == TICKED:
            families.observe(names.LATENESS, using, times=tally.waits)
    for labelled, number in sorted(by_key.items()):
        _count(families, using, labelled, number)
    for task, tally in sorted(by_task.items()):
        families.observe(names.WAITS, using, task, times=tally.waits)
        families.observe(names.RUNS, using, task, times=tally.runs)


def _count(families: Families, using: str, key: Key, number: int) -> None:
    task, queue, outcome = key
    if outcome in ENDS:
        families.set(names.ENDED, using, task, queue, outcome, value=number)
    elif outcome in COUNTERS:
        families.set(COUNTERS[outcome], using, task, queue, value=number)
    elif outcome == CLAIMED:
        families.set(names.CLAIMED, using, queue, value=number)
    elif outcome == PRUNED:
        families.set(names.PRUNED, using, value=number)


def _labels(found: Collection[str], declared: Iterable[str], most: int) -> dict[str, str]:
    """Return a label for each name: its own, or one for all that are too many.

    A label that was told once may end, and no counter ever falls: a name is left out for good.
    """
    if len(found) <= most:
        return {name: name for name in found}
    named = {*sorted(declared)[:most], OTHER}
    return {name: name if name in named else OTHER for name in found}
