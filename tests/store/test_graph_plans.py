"""What the sweep of graphs and the look for due schedules read, however much there is."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction

from aftercommit.ids import new_job_id
from aftercommit.models import Blocked, Dependency, Job, Schedule, Tick
from aftercommit.values import Succeeded
from tests import tiers
from tests.store import test_plans
from tests.store.filling import filled
from tests.store.given import claim_all
from tests.store.graphs import graph, is_free
from tests.store.test_plans import STATISTICS, Plans, at_most, reads, run

# Without apps no table is emptied after a test.
pytestmark = pytest.mark.django_db(transaction=True, available_apps=[])
plans = test_plans.plans

EDGES = tiers.size(change=4_000, full=100_000)  # and as many rows of pauses
TABLES = (Dependency, Schedule, Tick)
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
STEP = 100
PLAIN = {
    "task_path": "tests.app.tasks.add",
    "payload": '{"args":[],"kwargs":{}}',
    "run_after": "2100-01-01T00:00:00Z",
    "enqueued_at": "2020-01-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def many(django_db_setup, django_db_blocker):
    """Fill the tables with jobs that wait for one, rows of pauses, schedules and ticks."""
    first = Job(**PLAIN, needed=True)
    waiting = [
        Job(**PLAIN, claimable=False, waits_for=1, blocked=Blocked.JOBS)
        for _number in range(EDGES)
    ]
    with filled(django_db_blocker, [first, *waiting]):
        with django_db_blocker.unblock():
            fill(first, waiting)
        yield
        with django_db_blocker.unblock():
            for model in TABLES:
                model.objects.all().delete()


def fill(first, waiting):
    edges = [Dependency(job_id=one.id, needs_id=first.id, on_failure="run") for one in waiting]
    pauses = [Dependency(job_id=one.id, needs_id=new_job_id()) for one in waiting]
    with transaction.atomic():
        for rows in (edges, pauses):
            Dependency.objects.bulk_create(rows, batch_size=1000)
        Schedule.objects.bulk_create(map(schedule, range(EDGES)), batch_size=1000)
        Tick.objects.bulk_create(map(tick, range(EDGES)), batch_size=1000)
    for model in TABLES:
        run(STATISTICS[connection.vendor].replace("aftercommit_job", model._meta.db_table))
    connection.close()


def schedule(number):
    return Schedule(
        name=f"every {number}",
        task_path="tests.app.tasks.add",
        next_run=MOMENT + timedelta(minutes=number),
        created_at=MOMENT,
        changed_at=MOMENT,
    )


def tick(number):
    return Tick(schedule=f"every {number % 7}", moment=MOMENT + timedelta(minutes=number))


@pytest.fixture(autouse=True)
def empty_tables(many, transactional_db):
    """Undo what a test has written, instead of emptying the tables."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize("among", ["edges", "pauses"])
def test_a_step_of_the_sweep_reads_a_few_rows(among, store, plans):
    middle = Dependency.objects.filter(on_failure__isnull=among == "pauses").order_by("id")
    after = middle.values_list("id", flat=True)[EDGES // 2]

    with reads() as read:
        swept = store.sweep_edges(after=after, most=STEP)

    assert swept.waiting == (among == "edges")
    assert read.count < at_most(pages=12 * STEP, rows=8 * STEP, steps=150 * STEP)
    plans.must_not_read_all()


def test_an_end_finds_those_that_wait_for_it_by_the_index(store):
    jobs = graph(store, {"a": "", "b": "a"})
    (claim,) = claim_all(store)
    plans = Plans()

    with reads() as read, connection.execute_wrapper(plans):
        store.finish(claim, Succeeded())

    assert is_free(jobs["b"])
    assert read.count < at_most(pages=1_500, rows=100, steps=4_000)
    assert not any("Seq Scan on aftercommit_dependency" in one for one in plans.texts)


def test_the_look_for_schedules_reads_the_first_of_the_index(store):
    with reads() as read:
        moment, _now = store.next_moment()

    assert moment == MOMENT
    assert read.count < at_most(pages=20, rows=10, steps=300)


def test_the_ticks_of_a_moment_are_found_by_their_index(store):
    with reads() as read:
        assert store.take_ticks("every 3", {MOMENT: new_job_id()}) == {MOMENT}

    assert read.count < at_most(pages=150, rows=20, steps=1_000)
