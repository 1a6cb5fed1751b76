"""Limits of a queue and at run time, while workers are killed, stand still and come back."""

from collections import Counter

from aftercommit.models import Job, State
from aftercommit.store import store_for
from aftercommit.values import QUEUE, TASK
from tests.app.limited import FEWER, NARROW, fewer_in_a_queue, in_a_queue
from tests.process.harm import LONG, harm
from tests.process.rig import Rig
from tests.tiers import size
from tests.waiting import wait_until

JOBS = size(change=60, full=2_000)
HARMED = size(change=4, full=24)
AT_RUN_TIME = size(change=240, full=1_000)
ALONE = 25  # claims in a row
SETTINGS = "for one in TASKS.values(): one['OPTIONS']['queue_limits'] = {'narrow': %d}"


class Narrow:
    """A queue with a limit on a rig, and how many of its jobs run at any moment."""

    def __init__(self, rig: Rig, *, jobs: int) -> None:
        self.rig = rig
        self.most = 0  # that were seen to run at once
        rig.settings_module(SETTINGS % NARROW)
        rig.settings(modules="tests.app.limited", lease=3, heartbeat=1, max_crashes=1000)
        for task in (in_a_queue, fewer_in_a_queue):
            calls = [
                ((number,), {"lasting": rig.random.choice([0, 0, 0.03])})
                for number in range(jobs)
            ]
            rig.enqueue_many(task, calls)
        self.jobs = 2 * jobs

    def must_hold(self) -> bool:
        """Look at one moment; return whether everything has ended."""
        running = Job.objects.filter(queue="narrow", state=State.RUNNING)
        paths = list(running.values_list("task_path", flat=True))
        assert len(paths) <= NARROW
        assert paths.count(fewer_in_a_queue.module_path) <= FEWER
        self.most = max(self.most, len(paths))
        return not self.rig.open_jobs()

    def at_each_claim(self) -> list[int]:
        """Return how many ran after each claim, in the order in which they were made.

        A claim has the lock of the queue, so those before it stand before it in the ledger, and
        so does each end that it has seen.
        """
        found, running = [], 0
        for event in self.rig.ledger.events():
            if event.claimed:
                running += 1
                found.append(running)
            elif event.old_state == State.RUNNING != event.new_state:
                running -= 1
        return found

    def must_be_done(self) -> None:
        """Check what is left when everything has ended."""
        states = Counter(Job.objects.values_list("state", flat=True))
        assert states == {State.SUCCEEDED: self.jobs}
        assert not Job.objects.filter(blocked=1).exists()


def test_the_limit_of_a_queue_holds_while_workers_are_killed_and_come_back(rig: Rig) -> None:
    narrow = Narrow(rig, jobs=JOBS)
    harmed = harm(rig, times=HARMED, workers=4, processes=1, all_ended=narrow.must_hold)

    assert harmed == HARMED
    narrow.must_be_done()
    assert max(narrow.at_each_claim()) == NARROW
    assert not [one for one in rig.ledger.events() if one.wrong]


def test_all_follow_a_limit_that_is_set_and_changed_while_they_run(rig: Rig) -> None:
    store = store_for(rig.using)
    narrow = Narrow(rig, jobs=AT_RUN_TIME)
    trees = [rig.worker(processes=1, ready=False) for _number in range(3)]

    def after_that(limit: int, *, reached: bool) -> None:
        """Wait until as many claims in a row have kept the limit, one of them to the full."""
        since = len(narrow.at_each_claim())

        def kept() -> bool:
            claims = narrow.at_each_claim()
            rest = claims[since:][-ALONE:]
            full = not reached or limit in rest
            return (len(rest) == ALONE and max(rest) <= limit and full) or narrow.must_hold()

        wait_until(kept, deadline=LONG, why=f"{limit} at once")
        assert rig.open_jobs(), "there were too few jobs to see it"

    after_that(NARROW, reached=True)
    store.limit(QUEUE, "narrow", 1)
    after_that(1, reached=True)
    store.limit(QUEUE, "narrow", 3)
    after_that(3, reached=True)
    store.limit(TASK, in_a_queue.module_path, 1)
    after_that(3, reached=True)
    store.unlimit(QUEUE, "narrow")
    store.unlimit(TASK, in_a_queue.module_path)
    trees[0].kill()
    wait_until(narrow.must_hold, deadline=LONG, why="all jobs have ended")
    narrow.must_be_done()
    assert max(narrow.at_each_claim()) == NARROW
