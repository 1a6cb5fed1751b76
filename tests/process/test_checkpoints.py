"""Checkpoints of workers that are killed, or stand still until others have their jobs."""

import signal
from collections import Counter
from datetime import timedelta
from threading import Event

from aftercommit.models import Job, Progress
from tests.app.models import Effect
from tests.process.paging import turn_pages
from tests.process.rig import Rig, Tree
from tests.tiers import size
from tests.waiting import wait_until

LEASE = 0.8  # seconds
JOBS, PAGES = 6, 40
KILLS = size(change=3, full=20)
STOPS = size(change=3, full=20)


def test_each_page_is_turned_once_whoever_is_killed_or_stands_still(rig):
    rig.settings(modules="tests.process.paging", lease=LEASE, heartbeat=0.2, max_crashes=1000)
    trees = [rig.worker(ready=False) for _number in range(3)]
    for tree in trees:
        rig.wait_started(tree)
    keys = enqueue(rig, JOBS)

    for number in range(KILLS):
        keys += enqueue(rig, JOBS - rig.open_jobs())
        wait_for_pages(more=20)
        victim = trees.pop(rig.random.randrange(len(trees)))
        victim.kill()
        trees.append(rig.worker(ready=False))
        if rig.vendor != "sqlite" and number < STOPS:  # one with the write lock would stop all
            let_stand_still(rig.random.choice(trees))
    rig.wait_quiet(timedelta(minutes=2))

    turned = Counter(Effect.objects.values_list("key", flat=True))
    assert turned == Counter(f"{key}:{page}" for key in keys for page in range(PAGES))
    assert set(Job.objects.values_list("state", flat=True)) == {"succeeded"}
    again = [job for job in Job.objects.all() if job.token > 1]
    print("jobs that ran again:", len(again))
    assert again
    assert any(int(job.result) < PAGES for job in again)
    assert all(one.done == PAGES for one in Progress.objects.all())


def enqueue(rig: Rig, number: int) -> list[str]:
    """Enqueue so many jobs more; return their keys."""
    before = Job.objects.count()
    keys = [f"job {before + count}" for count in range(max(number, 0))]
    rig.enqueue_many(turn_pages, [((key, PAGES), {}) for key in keys])
    return keys


def wait_for_pages(*, more: int) -> None:
    """Wait until some pages more are turned, or all."""
    wanted = Effect.objects.count() + more

    def are_there() -> bool:
        done = Job.objects.filter(state__in=["ready", "running"]).count() == 0
        return done or Effect.objects.count() >= wanted

    wait_until(are_there, deadline=timedelta(seconds=60), why="pages are turned")


def let_stand_still(tree: Tree) -> None:
    """Stop a tree for about a lease, so that others take its jobs."""
    if tree.ended:
        return
    tree.signal_all(signal.SIGSTOP)
    Event().wait(1.5 * LEASE)
    tree.signal_all(signal.SIGCONT)
