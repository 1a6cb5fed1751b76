"""Rates, while workers are killed, stand still and come back."""

from collections import Counter, defaultdict
from datetime import datetime

from aftercommit.models import Job, State
from tests.app.models import Effect
from tests.app.rated import BURST, PER_SECOND, now_and_then
from tests.process.harm import harm
from tests.process.rig import Rig
from tests.tiers import size

ACCOUNTS, EACH = size(change=3, full=10), size(change=40, full=400)
HARMED = size(change=3, full=12)
LASTING = 0.02


def test_no_window_has_more_starts_than_the_rate_while_workers_are_killed(rig: Rig) -> None:
    rig.settings(modules="tests.app.rated", lease=3, heartbeat=1, max_crashes=1000)
    calls = [
        ((account, number), {"lasting": rig.random.choice([0, LASTING])})
        for number in range(EACH)
        for account in range(ACCOUNTS)
    ]
    rig.enqueue_many(now_and_then, calls)

    assert harm(rig, times=HARMED, workers=2, processes=2, all_ended=lambda: all_done(rig))

    assert Counter(Job.objects.values_list("state", flat=True)) == {
        State.SUCCEEDED: ACCOUNTS * EACH
    }
    assert not Job.objects.filter(line__isnull=False).exists()
    starts: defaultdict[str, list[datetime]] = defaultdict(list)
    for key, moment in Effect.objects.values_list("key", "value"):
        starts[key].append(datetime.fromisoformat(moment))
    assert len(starts) == ACCOUNTS
    for moments in starts.values():
        must_keep_the_rate(sorted(moments))


def all_done(rig: Rig) -> bool:
    """Return whether everything has ended."""
    return not rig.open_jobs()


def must_keep_the_rate(starts: list[datetime]) -> None:
    """Check each window between two starts; a longer one has no more."""
    for first, begin in enumerate(starts):
        for last, end in enumerate(starts[first:], first):
            most = (end - begin).total_seconds() * PER_SECOND + BURST
            assert last - first + 1 <= most + 1e-6
