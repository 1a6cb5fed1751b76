"""Fair lines, while workers are killed, stand still and come back."""

from collections import Counter

from django.db.models import Count

from aftercommit.models import Job, State
from tests.app.fair import AT_ONCE, few_in_turn, in_turn
from tests.app.models import Effect
from tests.process.harm import harm
from tests.process.rig import Rig
from tests.tiers import size

TENANTS, EACH = size(change=4, full=25), size(change=10, full=200)
HARMED = size(change=3, full=15)


def enqueue(rig: Rig) -> None:
    """Enqueue jobs of both kinds."""
    rig.settings(modules="tests.app.fair", lease=3, heartbeat=1, max_crashes=1000)
    # An atomic task holds SQLite's only lock while it works.
    longest = 0 if rig.vendor == "sqlite" else 0.02
    for task, lasting in ((in_turn, longest), (few_in_turn, 0.05)):
        calls = [
            ((tenant, number), {"lasting": rig.random.choice([0, 0, lasting])})
            for number in range(EACH)
            for tenant in range(TENANTS)
        ]
        rig.enqueue_many(task, calls)


def must_hold(rig: Rig) -> bool:
    """Look at all jobs at one moment; return whether everything has ended."""
    running = Job.objects.filter(slot__isnull=False)
    for (slots,) in running.values("limit_key").annotate(n=Count("id")).values_list("n"):
        assert slots <= AT_ONCE
    assert not Job.objects.filter(line__isnull=False).exclude(state=State.READY).exists()
    assert not Job.objects.filter(line__isnull=False, claimable=True).exists()
    return not rig.open_jobs()


def test_each_job_of_each_tenant_is_done_once_while_workers_are_killed(rig: Rig) -> None:
    enqueue(rig)
    harmed = harm(rig, times=HARMED, workers=2, processes=2, all_ended=lambda: must_hold(rig))

    assert harmed == HARMED
    assert Counter(Job.objects.values_list("state", flat=True)) == {
        State.SUCCEEDED: 2 * TENANTS * EACH
    }
    assert not Job.objects.filter(blocked__isnull=False).exists()
    done = Counter(Effect.objects.values_list("key", flat=True))
    assert done == {f"turn:{one}:{number}": 1 for one in range(TENANTS) for number in range(EACH)}
