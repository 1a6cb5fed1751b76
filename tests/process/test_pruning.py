"""Pruning beside kill -9: each job goes through the archive first, and no live one does."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Event
from uuid import UUID, uuid4

from django.db import connections

from aftercommit.ids import first_id_of
from aftercommit.models import FINISHED, Job
from aftercommit.store import store_for
from tests.app.chores import plain
from tests.process.archives import STANDS_STILL, TAKES
from tests.tiers import size
from tests.waiting import wait_until

LONG_AGO = timedelta(days=40)
KILLS, HITS = size(change=3, full=20), size(change=1, full=8)
AT_ONCE = 60  # old jobs, at least, while workers are killed
BATCH, LIFE = 0.05, 0.1  # seconds; from the begin of a batch until its worker is killed
MOST_KILLS = KILLS + 20 * HITS
PATIENCE = timedelta(minutes=3)


class Old:
    """Jobs that ended long ago."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []

    def add(self, number: int) -> None:
        """Make more of them, of all states."""
        at = datetime.now(UTC) - LONG_AGO
        first = first_id_of(at).int + len(self.ids)
        moments = dict.fromkeys(
            ("run_after", "enqueued_at", "started_at", "claimed_at", "finished_at"), at
        )
        rows = [
            Job(
                id=UUID(int=first + one),
                state=FINISHED[one % len(FINISHED)],
                claimable=False,
                unsuccessful=one % len(FINISHED) > 0,
                task_path=plain.module_path,
                payload=f'{{"args":["again {first + one}"],"kwargs":{{}}}}',
                worker_id=uuid4(),
                **moments,
            )
            for one in range(number)
        ]
        Job.objects.bulk_create(rows)
        self.ids += [one.id for one in rows]

    def left(self) -> set[UUID]:
        """Return those that are there and have not run again."""
        rows = Job.objects.filter(finished_at__lt=datetime.now(UTC) - LONG_AGO / 2)
        return set(rows.values_list("id", flat=True))


def prepared(rig):
    """Let all workers of a rig prune."""
    rig.settings(modules="tests.process.pruning", lease=1, heartbeat=0.3)
    archive = "'tests.process.pruning.archive'"
    rig.settings_module(f"TASKS['default']['OPTIONS']['archive'] = {archive}")
    return rig


def archived(rig):
    """Return the ids of the jobs that the archive has got, each as often as it has."""
    return [UUID(one) for note in rig.notes("archived") for one in note["ids"]]


def test_who_prunes_is_killed_in_the_middle_and_the_next_one_archives_it_all(rig):
    old = Old()
    old.add(40)
    prepared(rig)
    trees = [rig.worker(**{STANDS_STILL: "go on"}) for _number in range(2)]

    begun = rig.wait_note("archiving")
    next(tree for tree in trees if tree.pid == begun["tree"]).kill()
    rig.open_gate("go on")
    wait_until(lambda: not old.left(), deadline=PATIENCE, why="all are deleted")

    assert {UUID(one) for one in begun["ids"]} <= set(old.ids)
    assert set(archived(rig)) == set(old.ids)
    assert rig.notes("archived", tree=begun["tree"]) == []


class Storm:
    """Two workers of which one prunes, and is killed, again and again."""

    def __init__(self, rig, old):
        self.rig, self.old = rig, old
        self.trees = [rig.worker(), rig.worker()]
        self.retried: set[UUID] = set()
        self.kills = self.hits = 0

    def rage(self):
        """Kill until so many are dead, and so many of them in the middle of a batch."""
        while self.kills < KILLS or self.hits < HITS:
            assert self.kills < MOST_KILLS, f"only {self.hits} hit a batch"
            self.old.add(max(AT_ONCE - len(self.old.left()), 0))
            before = len(self.rig.notes("archiving"))
            begun = self.rig.wait_note("archiving", times=before + 1)
            self.retried |= retry_some(self.rig, self.old)
            Event().wait(self.rig.random.uniform(0, LIFE))
            self._kill(next(tree for tree in self.trees if tree.pid == begun["tree"]))

    def _kill(self, victim):
        victim.kill()
        begun, ended = (
            len(self.rig.notes(what, tree=victim.pid)) for what in ("archiving", "archived")
        )
        self.kills += 1
        self.hits += begun > ended
        self.trees[self.trees.index(victim)] = self.rig.worker()


def test_kill_9_loses_no_job_that_ended_and_archives_none_that_lives(rig, vendor):
    old = Old()
    old.add(AT_ONCE)
    prepared(rig).environment[TAKES] = str(BATCH)
    young = [rig.enqueue(plain, f"young {number}") for number in range(5)]
    with long_transaction(old.ids[-1], vendor):
        storm = Storm(rig, old)
        storm.rage()
        assert old.ids[AT_ONCE - 1] in old.left() or vendor == "sqlite"
    wait_until(lambda: not old.left(), deadline=PATIENCE, why="all are deleted")
    rig.wait_quiet()

    got = archived(rig)
    print(f"{storm.hits} of {storm.kills} hit a batch; {len(got)} for {len(set(got))}")
    there = set(Job.objects.values_list("id", flat=True))
    assert set(old.ids) - there <= set(got)
    assert {state for one in rig.notes("archived") for state in one["states"]} <= set(FINISHED)
    assert {UUID(one) for one in young} <= there - set(got)
    assert storm.retried <= there


def retry_some(rig, old):
    """Retry old jobs by hand; return the ids of those that were there to be retried."""
    failed = list(Job.objects.filter(id__in=old.left(), state="failed").values_list("id")[:50])
    chosen = [row[0] for row in rig.random.sample(failed, min(2, len(failed)))]
    return set(store_for("default").retry(chosen).ready)


@contextmanager
def long_transaction(job_id, vendor):
    """Hold a transaction open that has locked a job; on SQLite, one that reads."""
    other = connections["default"].copy()
    value = Job._meta.pk.get_db_prep_value(job_id, other)
    lock = "" if vendor == "sqlite" else " FOR UPDATE"
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"SELECT id FROM aftercommit_job WHERE id = %s{lock}", [value])
            assert len(cursor.fetchall()) == 1
            yield
            cursor.execute("ROLLBACK")
    finally:
        other.close()
