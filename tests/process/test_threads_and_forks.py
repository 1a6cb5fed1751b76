"""No database connection is ever used by two threads or by two processes."""

from itertools import product

import pytest

from tests.app.chores import KINDS, plain
from tests.app.models import Effect
from tests.process import forks
from tests.process.custody import Custody
from tests.process.rig import QUIET, STARTED, is_alive
from tests.waiting import wait_until

THREADS = 16
POOLED = """
DATABASES['default']['OPTIONS'] = {'pool': {'min_size': 2, 'max_size': 40}}
"""
# A command of the project that has had its own use for the database.
COMMAND = """
import django
django.setup()
from django.core.management import call_command
from tests.app.models import Effect
from tests.process import custody
Effect.objects.create(key="before")
call_command("aftercommit", "worker", "--drain", "--threads", "8", "--backend", "default")
Effect.objects.create(key="after")
"""


@pytest.fixture
def watched(rig):
    """Return a rig whose processes note who uses which connection."""
    rig.settings(modules="tests.process.custody,tests.process.forks", max_crashes=1000)
    rig.environment["AFTERCOMMIT_TEST_CUSTODY"] = "yes"
    return rig


@pytest.mark.parametrize(("age", "jobs"), [(0, 40), (60, 280)])
def test_no_two_threads_use_one_connection(watched, age, jobs):
    watched.settings_module(f"DATABASES['default']['CONN_MAX_AGE'] = {age}")
    keys = enqueue_of_each_kind(watched, jobs)

    assert watched.worker("--drain", "--threads", str(THREADS)).wait(QUIET) == 0

    custody = custody_of(watched)
    assert not custody.shared
    assert custody.uses > 2 * len(keys)
    assert custody.threads > THREADS
    assert not watched.check(committed=keys).violations


def test_no_two_threads_hold_one_connection_of_a_pool(watched, vendor):
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL has OPTIONS['pool']")
    watched.settings_module(POOLED)
    keys = enqueue_of_each_kind(watched, 100)

    assert watched.worker("--drain", "--threads", str(THREADS)).wait(QUIET) == 0

    custody = custody_of(watched)
    assert not custody.shared
    assert custody.threads > THREADS
    assert len(watched.notes("from_pool")) > THREADS
    assert not watched.check(committed=keys).violations


def test_a_worker_shares_nothing_with_the_command_that_started_it(watched):
    keys = [str(number) for number in range(40)]
    watched.enqueue_many(plain, [((key,), {}) for key in keys])

    assert watched.run("-c", COMMAND).wait() == 0

    custody = custody_of(watched)
    assert not custody.shared
    assert len(custody.processes) >= 2
    assert Effect.objects.filter(key__in=["before", "after"]).count() == 2
    assert not watched.check(committed=keys).violations


def test_a_fork_that_comes_back_from_a_task_ends_before_it_touches_anything(watched):
    keys = []
    for task, raises, number in product(forks.KINDS, [False, True], range(4)):
        keys.append(f"{task.name}-{raises}-{number}")
        watched.enqueue(task, keys[-1], raises=raises)

    assert watched.worker("--drain").wait() == 0

    custody = custody_of(watched)
    ended = watched.notes("fork_ended")
    assert not custody.shared
    assert len(ended) == len(keys)
    assert not [one for one in ended if is_alive(one["child"])]
    assert sorted(effect.key for effect in Effect.objects.all()) == sorted(keys)
    assert not watched.check(committed=keys).violations


# ---- mutants: what the tests above must not overlook ----------------------------


def test_a_connection_lent_to_other_threads_is_noticed(watched):
    watched.settings(modules="tests.process.lending")
    watched.enqueue_many(plain, [((str(number),), {}) for number in range(40)])

    watched.worker(ready=False)

    wait_until(lambda: Custody(watched.notes()).shared, why="shared", deadline=STARTED)


# ---- what these tests have in common --------------------------------------------


def enqueue_of_each_kind(rig, number: int) -> list[str]:
    """Enqueue so many jobs of each of three kinds; return their keys."""
    keys = []
    for task in KINDS:
        fresh = [f"{task.name}-{one}" for one in range(number)]
        rig.enqueue_many(task, [((key,), {}) for key in fresh])
        keys += fresh
    return keys


def custody_of(rig) -> Custody:
    """Read the notes; print the counters."""
    custody = Custody(rig.notes())
    print(custody)
    return custody
