"""A graph of calls, while workers are killed: each step's effect is there once (TORTURE 18)."""

from collections import Counter
from datetime import timedelta

from django.db import transaction

from aftercommit.models import Dependency, Job, State
from tests.app.graphs import step
from tests.app.models import Effect
from tests.process.rig import Rig, Tree
from tests.tiers import size
from tests.waiting import wait_until

LONG = timedelta(minutes=15)
CALLS = size(change=200, full=10_000)
KILLS = size(change=4, full=40)
WIDTH = size(change=20, full=250)  # steps that may run side by side
WORKERS, PROCESSES = 2, 1


def enqueue_graph(rig: Rig) -> None:
    """Enqueue layers of steps; each needs some of the layer before, and the last one all."""
    calls = []
    for number in range(CALLS - 1):
        layer = number // WIDTH * WIDTH
        earlier = range(max(layer - WIDTH, 0), layer)
        before = sorted(rig.random.sample(earlier, min(len(earlier), rig.random.randint(1, 4))))
        results = [calls[one] for one in before]
        calls.append(step.bind(number, before, results))
    last = step.bind(CALLS - 1, list(range(CALLS - 1)), calls)
    with transaction.atomic():
        last.enqueue()


def kill_workers(rig: Rig) -> int:
    """Kill workers at work, spread over the run of the graph; return how many."""
    trees: list[Tree] = [
        rig.worker(processes=PROCESSES, ready=False) for _number in range(WORKERS)
    ]
    killed = 0

    def next_victim() -> Tree | bool:
        left = rig.open_jobs()
        if not left:
            return True
        if CALLS - left < CALLS * killed / (KILLS + 1):
            return False
        return next((tree for tree in trees if rig.busy(tree)), False)

    while killed < KILLS:
        victim = wait_until(next_victim, deadline=LONG, why="a worker is at work")
        if isinstance(victim, bool):
            break
        victim.kill()
        killed += 1
        trees[trees.index(victim)] = rig.worker(processes=PROCESSES, ready=False)
    wait_until(lambda: not rig.open_jobs(), deadline=LONG, why="all steps have ended")
    return killed


def test_a_graph_survives_kill_9_of_its_workers_with_each_effect_once(rig: Rig) -> None:
    rig.settings(modules="tests.app.graphs", lease=3, heartbeat=1, max_crashes=1000)
    enqueue_graph(rig)
    assert Job.objects.count() == CALLS

    killed = kill_workers(rig)

    crashed = Job.objects.filter(crashes__gt=0).count()
    print(f"{CALLS} calls, {killed} workers killed, {crashed} jobs were on one that died")
    assert Counter(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED: CALLS}
    effects = Counter(Effect.objects.values_list("key", flat=True))
    assert effects == {f"step:{number}": 1 for number in range(CALLS)}
    assert not Dependency.objects.exists()
    assert killed == KILLS
