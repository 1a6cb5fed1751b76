"""Estimates of how long the queue will take, in seconds, as Django Async reckons them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import timedelta

from aftercommit import groups
from aftercommit.store import default_alias, store_for
from aftercommit.store.overview import Run

DAY = timedelta(days=1)
READY = "ready"


def estimate_rough_queue_completion() -> float:
    """Return the jobs that wait, times how long one of the last day has waited and run."""
    store = store_for(default_alias())
    runs = store.ended_lately(DAY)
    spent = sum(_seconds(run) + _waited(run) for run in runs)
    left = sum(store.by_name(READY).values())
    return round(left * spent / (len(runs) or 1), 2)


def estimate_queue_completion() -> float:
    """Return what the groups, the present job and each function's jobs will take."""
    using = default_alias()
    store = store_for(using)
    found = [groups.get(one, using=using).estimate for one in store.unfinished_groups()]
    of_groups = sum(one.total_seconds() for one in found if one is not None)
    waiting = store.by_name(READY, grouped=False)
    means = _means(store.ended_lately(DAY, names=waiting))
    alone = sum(means.get(name, 0.0) * number for name, number in waiting.items())
    return round(of_groups + estimate_current_job_completion() + alone, 2)


def estimate_current_job_completion() -> float:
    """Return how long the present job will take by the mean of its function's; 0 without one.

    Of several that run at once it is the one that takes longest.
    """
    store = store_for(default_alias())
    running = store.running_now()
    means = _means(store.ended_lately(DAY, names={run.name for run in running}))
    now = store.now()
    left = [means.get(run.name, 0.0) - (now - run.claimed_at).total_seconds() for run in running]
    return round(max(left, default=0.0), 2)


def _means(runs: Iterable[Run]) -> dict[str, float]:
    found: defaultdict[str, list[float]] = defaultdict(list)
    for run in runs:
        found[run.name].append(_seconds(run))
    return {name: sum(some) / len(some) for name, some in found.items()}


def _seconds(run: Run) -> float:
    return 0.0 if run.finished_at is None else (run.finished_at - run.claimed_at).total_seconds()


def _waited(run: Run) -> float:
    return max((run.claimed_at - run.due_at).total_seconds(), 0.0)
