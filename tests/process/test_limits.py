"""Limits and strict order, while workers are killed, stand still and come back (TORTURE 18).

A trigger looks at the slots of a key with each write of one, so that nothing is missed between
two looks of the test.
"""

import signal
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import Count

from aftercommit.models import Job, State
from tests.app.limited import SEVERAL, SEVERAL_VARIABLE, one_by_one, some_at_once
from tests.app.models import Effect
from tests.process.rig import Rig, Tree
from tests.tiers import size
from tests.waiting import wait_until

LONG = timedelta(minutes=10)
# Each account has two keys: one with several slots, one in order.
ACCOUNTS, EACH = size(change=4, full=25), size(change=10, full=200)
HARMED = size(change=3, full=15)

# What a trigger notes if more than so many jobs of a key have slots.
BROKEN = "INSERT INTO limits_broken SELECT {key}, {held}"
HELD = "(SELECT COUNT(*) FROM aftercommit_job WHERE limit_key = {key} AND slot IS NOT NULL)"
WATCH = {
    # At COMMIT, when all that it changes is done.
    "postgresql": [
        f"""
        CREATE FUNCTION limits_watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF {HELD.format(key="NEW.limit_key")} > {{most}} THEN
                {BROKEN.format(key="NEW.limit_key", held=HELD.format(key="NEW.limit_key"))};
            END IF;
            RETURN NULL;
        END $$
        """,
        """
        CREATE CONSTRAINT TRIGGER limits_watch AFTER UPDATE ON aftercommit_job
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.slot IS NOT NULL AND OLD.slot IS NULL) EXECUTE FUNCTION limits_watch()
        """,
    ],
    "sqlite": [
        f"""
        CREATE TRIGGER limits_watch AFTER UPDATE OF slot ON aftercommit_job
        WHEN NEW.slot IS NOT NULL AND {HELD.format(key="NEW.limit_key")} > {{most}}
        BEGIN {BROKEN.format(key="NEW.limit_key", held=HELD.format(key="NEW.limit_key"))}; END
        """
    ],
    "mysql": [
        f"""
        CREATE TRIGGER limits_watch AFTER UPDATE ON aftercommit_job FOR EACH ROW
        BEGIN
            IF NEW.slot IS NOT NULL AND {HELD.format(key="NEW.limit_key")} > {{most}} THEN
                {BROKEN.format(key="NEW.limit_key", held=HELD.format(key="NEW.limit_key"))};
            END IF;
        END
        """
    ],
}
FORGET = {
    "postgresql": [
        "DROP TRIGGER limits_watch ON aftercommit_job",
        "DROP FUNCTION limits_watch()",
    ],
    "sqlite": ["DROP TRIGGER limits_watch"],
    "mysql": ["DROP TRIGGER limits_watch"],
}


def run(*statements: str) -> list[tuple[object, ...]]:
    """Run statements as they are; return the rows of the last one."""
    with connection.cursor() as cursor:
        for sql in statements:
            cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.fixture
def watch(transactional_db: None) -> Iterator[None]:
    """Note each moment at which a key has more slots than the highest limit allows."""
    texts = [one.format(most=SEVERAL) for one in WATCH[connection.vendor]]
    run("CREATE TABLE limits_broken (limit_key varchar(255), held integer)", *texts)
    yield
    run(*FORGET[connection.vendor], "DROP TABLE limits_broken")


class Watched:
    """Jobs of both kinds on a rig, and what must hold at any moment."""

    def __init__(self, rig: Rig, *, accounts: int, each: int, longest: float) -> None:
        self.rig = rig
        self.accounts, self.each = accounts, each
        rig.settings(modules="tests.app.limited", lease=3, heartbeat=1, max_crashes=1000)
        # An atomic task holds SQLite's only lock while it works.
        in_line = 0 if rig.vendor == "sqlite" else longest / 5
        for task, lasting in ((some_at_once, longest), (one_by_one, in_line)):
            calls = [
                ((account, number), {"lasting": rig.random.choice([0, 0, lasting])})
                for number in range(each)
                for account in range(accounts)
            ]
            rig.enqueue_many(task, calls)

    def must_hold(self) -> bool:
        """Look at the slots of all keys at one moment; return whether everything has ended."""
        running = Job.objects.filter(slot__isnull=False)
        for path, _key, slots in running.values_list("task_path", "limit_key").annotate(
            Count("id")
        ):
            assert slots <= (SEVERAL if path == some_at_once.module_path else 1), path
        without = Job.objects.filter(state=State.RUNNING, slot__isnull=True)
        assert not without.exists()
        return not self.rig.open_jobs()

    def must_be_done(self) -> None:
        """Check what is left when everything has ended."""
        assert Counter(Job.objects.values_list("state", flat=True)) == {
            State.SUCCEEDED: 2 * self.accounts * self.each
        }
        assert not Job.objects.filter(blocked=1).exists()
        lines = defaultdict(list)
        for key in Effect.objects.order_by("id").values_list("key", flat=True):
            _line, account, number = key.split(":")
            lines[int(account)].append(int(number))
        assert dict(lines) == {one: list(range(self.each)) for one in range(self.accounts)}


def harm(watched: Watched, *, times: int) -> None:
    """Kill workers that are at work, and let some stand still and come back as zombies."""
    rig = watched.rig
    trees = [rig.worker(processes=2, ready=False) for _number in range(2)]
    zombies: list[Tree] = []  # the last one stands still, the one before has come back

    def somebody_works() -> Tree | None:
        watched.must_hold()
        return next((tree for tree in trees if rig.busy(tree)), None)

    for number in range(times):
        tree = wait_until(somebody_works, deadline=LONG, why="somebody is at work")
        trees.remove(tree)
        if number % 3 == 2:
            tree.stand_still()
            zombies.append(tree)
            for back in zombies[-2:-1]:
                back.signal_all(signal.SIGCONT)
            for gone in zombies[:-2]:  # or they would take all connections of the server
                gone.kill()
                zombies.remove(gone)
        else:
            tree.kill()
        # In turn with the limit of the declaration, and as if it had been lowered.
        limit = SEVERAL if number % 2 else 1
        trees.append(rig.worker(processes=2, ready=False, **{SEVERAL_VARIABLE: str(limit)}))
    for zombie in zombies:
        zombie.signal_all(signal.SIGCONT)
    wait_until(watched.must_hold, deadline=LONG, why="all jobs have ended")


def test_limits_and_order_hold_while_workers_are_killed_and_come_back(
    rig: Rig, watch: None
) -> None:
    watched = Watched(rig, accounts=ACCOUNTS, each=EACH, longest=0.05)
    harm(watched, times=HARMED)
    watched.must_be_done()
    assert run("SELECT limit_key, held FROM limits_broken") == []
