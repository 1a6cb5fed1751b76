"""The cursor: where in a queue a claim begins, and what it must not leave behind."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import OperationalError, connection

from aftercommit.models import Job
from aftercommit.values import ClaimQuery, Position
from aftercommit.worker.claiming import cursor as cursor_module
from aftercommit.worker.claiming import fetcher as fetcher_module
from aftercommit.worker.claiming.cursor import ClaimCursor
from tests.store.given import LEASE
from tests.worker.rig import another_connection, commits
from tests.worker.test_fetcher import enqueue, fetcher  # noqa: F401 - a fixture

pytestmark = commits

QUEUE = "a"


class Asked:
    """Stands before the store: what was asked for, and whether it is refused."""

    def __init__(self, monkeypatch, store):
        self.positions = []
        self.refuse_from_front = False
        self._claim = store.claim
        monkeypatch.setattr(store, "claim", self)

    def __call__(self, query):
        self.positions.append(query.after)
        if self.refuse_from_front and query.after is None:
            raise OperationalError("the server does not answer")
        return self._claim(query)


@pytest.fixture
def asked(monkeypatch, store):
    """Return what the store was asked for; a look from the front is never due by time."""
    monkeypatch.setattr(cursor_module, "FROM_FRONT", timedelta(hours=1))
    return Asked(monkeypatch, store)


GROUPS = [("default", priority) for priority in (7, 3, 0)]


def ids(claims):
    """Return whose claims these are."""
    return [claim.job_id for claim in claims]


def position_of(job_id):
    """Return where a job stands."""
    job = Job.objects.get(pk=job_id)
    return Position(job.backend, job.priority, job.run_after, job.id)


def test_a_full_batch_is_followed_by_what_stands_behind_it(asked, fetcher):  # noqa: F811
    jobs = enqueue(QUEUE, 6)
    room = fetcher([QUEUE])

    found = [ids(room.fetch(limit=2)) for _number in range(3)]

    assert sorted(map(sorted, found)) == sorted(sorted(jobs[n : n + 2]) for n in (0, 2, 4))
    assert asked.positions == [None, position_of(jobs[1]), position_of(jobs[3])]


def test_too_little_behind_the_cursor_is_made_up_from_the_front(asked, fetcher):  # noqa: F811
    first = enqueue(QUEUE, 2)
    room = fetcher([QUEUE])
    room.fetch(limit=2)
    early = enqueue(QUEUE, 2)
    Job.objects.filter(pk__in=early).update(run_after=position_of(first[0]).run_after)
    Job.objects.filter(pk=early[0]).update(priority=5)

    found = ids(room.fetch(limit=10))
    assert asked.positions == [None, position_of(first[1]), None]
    found += ids(room.fetch(limit=10))  # of a priority that was not there before

    assert sorted(found) == sorted(early)


def test_a_batch_that_was_not_full_is_followed_by_a_look_from_the_front(
    asked,
    fetcher,  # noqa: F811
):
    enqueue(QUEUE, 3)
    room = fetcher([QUEUE])

    for _number in range(3):
        room.fetch(limit=10)

    assert asked.positions == [None] * 3


def test_the_urgent_are_found_when_a_look_from_the_front_is_due(
    asked,
    fetcher,  # noqa: F811
    monkeypatch,
):
    monkeypatch.setattr(fetcher_module, "LOOK_EVERY", timedelta(0))
    monkeypatch.setattr(fetcher_module, "SHARE", float("inf"))
    jobs = enqueue(QUEUE, 6)
    room = fetcher([QUEUE])
    room.fetch(limit=2)
    (urgent,) = enqueue(QUEUE, priority=50)
    monkeypatch.setattr(cursor_module, "FROM_FRONT", timedelta(0))
    monkeypatch.setattr(cursor_module, "SHARE", float("inf"))

    assert urgent in ids(room.fetch(limit=2))
    assert asked.positions[-1] is None
    assert jobs


def test_what_was_claimed_is_kept_when_the_look_from_the_front_fails(
    asked,
    fetcher,  # noqa: F811
):
    jobs = enqueue(QUEUE, 3)
    room = fetcher([QUEUE])
    room.fetch(limit=2)
    asked.refuse_from_front = True

    assert ids(room.fetch(limit=5)) == jobs[2:]
    assert asked.positions[-1] is None


def test_a_slow_look_from_the_front_is_made_seldom(monkeypatch, rig):
    clock = [100.0]
    monkeypatch.setattr(cursor_module.time, "monotonic", lambda: clock[0])
    cursor = ClaimCursor()
    claim = rig.claim(rig.enqueue(lambda context: None))
    cursor.looked_from_front(seconds=0.5)
    cursor.claimed([claim], groups=GROUPS, full=True)

    clock[0] += 4.9
    assert cursor.position == Position(
        claim.backend, claim.priority, claim.run_after, claim.job_id
    )
    clock[0] += 0.2
    assert cursor.position is None


def test_the_cursor_is_at_the_last_of_a_batch_whatever_its_order(rig):
    claims = [
        rig.claim(rig.enqueue(lambda context: None, priority=priority))
        for priority in (7, 0, 7, 0, 3)
    ]
    cursor = ClaimCursor()
    cursor.looked_from_front(seconds=0)

    cursor.claimed(claims, groups=GROUPS, full=True)

    last = claims[3]
    assert cursor.position == Position(last.backend, last.priority, last.run_after, last.job_id)


def test_what_an_open_transaction_may_still_see_is_stepped_over(store, fetcher):  # noqa: F811
    """As many pages as a batch needs are read, not as many as were ever claimed."""
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL is told where to begin")
    enqueue(QUEUE, 3000)
    with another_connection() as onlooker, onlooker.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT COUNT(*) FROM aftercommit_job")
        room = fetcher([QUEUE])
        while Job.objects.filter(state="ready").count() > 100:
            last = room.fetch(limit=100)
        behind = Position(
            "default", last[0].priority, *max((one.run_after, one.job_id) for one in last)
        )
        pages = [pages_read(store, after) for after in (None, behind)]
        cursor.execute("ROLLBACK")

    from_front, from_cursor = pages
    assert from_front > 2 * from_cursor


def pages_read(store, after):
    """Return how many pages a claim of one job reads."""
    read = []

    def explain(execute, sql, params, many, context):
        execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql, params, many, context)
        (answer,) = context["cursor"].fetchone()
        read.append(answer[0]["Plan"]["Shared Hit Blocks"])
        raise Explained

    with pytest.raises(Explained), connection.execute_wrapper(explain):
        store.claim(ClaimQuery(queue=QUEUE, limit=1, worker_id=uuid4(), lease=LEASE, after=after))
    return read[0]


class Explained(Exception):
    """The statement was carried out, and its rows are of no interest."""
