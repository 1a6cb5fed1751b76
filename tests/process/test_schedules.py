"""Five workers that make the jobs of a schedule, killed between the tick and its job."""

from collections import Counter
from datetime import timedelta

from aftercommit import schedules
from aftercommit.models import Job, Schedule, State, Tick
from tests.app.models import Effect
from tests.process.rig import STARTED, Rig, Tree
from tests.tiers import size
from tests.waiting import wait_until

WORKERS = 5
KILLED = size(change=6, full=40)
MODULE = "tests.app.periodic"
NAME = f"{MODULE}.each_second"
SECOND = timedelta(seconds=1)
MORE_TICKS = 3  # after the last kill


def start(rig: Rig) -> Tree:
    """Start a worker that makes schedules' jobs slowly."""
    return rig.worker(ready=False, AFTERCOMMIT_TEST_TICKS="1")


def ticking(rig: Rig, trees: list[Tree]) -> Tree | None:
    """Return a worker that is between a tick and its job just now, as far as it has said."""
    notes = rig.notes("ticking")
    latest = notes[-1] if notes else None
    return next((one for one in trees if latest and one.pid == latest["tree"]), None)


def storm(rig: Rig, *, times: int) -> Counter[bool]:
    """Kill so many workers while they tick, and replace each; return when they were killed."""
    rig.settings(modules=MODULE, lease=3, heartbeat=1, max_crashes=1000)
    trees = [start(rig) for _number in range(WORKERS)]
    killed: Counter[bool] = Counter()
    for _number in range(times):
        seen = len(rig.notes("ticking")) + rig.random.randrange(3)
        wait_until(
            lambda seen=seen: len(rig.notes("ticking")) > seen,
            deadline=STARTED,
            why="a worker ticks",
        )
        victim = ticking(rig, trees)
        if victim is not None:
            killed[rig.notes("ticking")[-1]["written"]] += 1
            victim.kill()
            trees.remove(victim)
            trees.append(start(rig))
    begun = Tick.objects.count()
    wait_until(
        lambda: Tick.objects.count() >= begun + MORE_TICKS, deadline=STARTED, why="it goes on"
    )
    schedules.disable(NAME, using="default")
    rig.wait_quiet()
    return killed


def test_five_schedulers_under_kill_9_make_each_tick_once(rig: Rig) -> None:
    killed = storm(rig, times=KILLED)

    print(f"seed {rig.seed}: killed with the tick written or not: {killed}")
    assert sum(killed.values()) >= KILLED / 2
    moments = list(Tick.objects.order_by("moment").values_list("moment", flat=True))
    assert moments == [moments[0] + number * SECOND for number in range(len(moments))]
    done = Counter(Effect.objects.filter(key__startswith="tick:").values_list("key", flat=True))
    assert done == Counter(f"tick:{moment.isoformat()}" for moment in moments)
    assert Job.objects.filter(state=State.SUCCEEDED).count() == len(moments)
    assert Schedule.objects.get().missed == 0
