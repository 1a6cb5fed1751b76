"""Weights and strict orders of queues, and what many queues cost."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit.models import Job
from aftercommit.options.choice import QueueChoice
from aftercommit.store.clock import in_future
from aftercommit.worker.claiming import fetcher as fetcher_module
from aftercommit.worker.claiming.shares import Shares
from aftercommit.worker.claiming.turns import Turns
from tests.store.given import new_job
from tests.worker.rig import commits
from tests.worker.room import Room, enqueue

pytestmark = commits


def parsed(*texts, strict=False):
    """Read the parts of ``--queues``."""
    return QueueChoice.parsed(texts, strict=strict)


def firsts(turns, queues, number):
    """Return which queue comes first in so many fetches."""
    found = []
    for _number in range(number):
        turns.begin()
        found.append(next(turns.order(queues)))
    return found


def test_queues_come_first_in_proportion_to_their_weights_and_spread():
    turns = Turns(may_ask=lambda _queue: True, choice=parsed("mail:3", "reports*"))

    order = firsts(turns, ["mail", "reports.a", "reports.b"], 10)

    assert Counter(order) == {"mail": 6, "reports.a": 2, "reports.b": 2}
    assert Counter(order[:5]) == {"mail": 3, "reports.a": 1, "reports.b": 1}
    assert order[:3] != ["mail"] * 3


def test_queues_share_what_one_that_is_held_back_leaves():
    held = {"a"}
    turns = Turns(may_ask=lambda queue: queue not in held, choice=parsed("a:10", "*"))

    assert Counter(firsts(turns, ["a", "b", "c"], 20)) == {"b": 10, "c": 10}
    held.clear()
    assert Counter(firsts(turns, ["a", "b", "c"], 12)) == {"a": 10, "b": 1, "c": 1}


def test_queues_that_are_gone_are_forgotten():
    shares = Shares(parsed("*:2"))
    for number in range(100):
        shares.order([f"q{number}", "stays"])

    assert set(shares._credit) == {"q99", "stays"}


def test_jobs_are_claimed_in_proportion_to_the_weights(store):
    for queue in ("mail", "reports"):
        enqueue(queue, 30)
    room = Room(store, queues=parsed("mail:3", "*"))

    claimed = [queue for _number in range(20) for queue in room.fetch(limit=2)]

    assert Counter(claimed) == {"mail": 30, "reports": 10}


def test_in_a_strict_order_a_queue_is_asked_when_those_before_have_nothing(store, monkeypatch):
    monkeypatch.setattr(fetcher_module, "LOOK_EVERY", timedelta(0))
    monkeypatch.setattr(fetcher_module, "SHARE", 1000)
    enqueue("late", 3, priority=100)
    enqueue("soon.a", 2)
    enqueue("first", 2)
    room = Room(store, queues=parsed("first", "soon*", "late", strict=True))

    assert room.fetch(limit=3) == ["first", "first", "soon.a"]
    enqueue("soon.b", 1)
    assert room.fetch(limit=2) == ["soon.a", "soon.b"]
    assert room.fetch(limit=1) == ["late"]
    enqueue("first", 1)
    assert room.fetch(limit=2) == ["first", "late"]


def test_a_queue_asked_in_vain_does_not_go_ahead_of_more_urgent_ones():
    turns = Turns(may_ask=lambda _queue: True, choice=parsed("a", "b", "v", strict=True))
    turns.asked("v", in_vain=True)
    turns.looked(["a", "b", "v"])
    turns.begin()

    assert list(turns.order(["v", "b", "a"])) == ["a", "b", "v"]


def test_only_queues_that_a_pattern_matches_are_asked(store):
    for queue in ("mail", "reports.a", "reports.b", "other", "relay.rq"):
        enqueue(queue)
        enqueue(queue, crashes=1)

    for crashed in (False, True):
        room = Room(store, queues=parsed("reports*", "*l*"), crashed=crashed)
        assert room.fetch() == ["mail", "reports.a", "reports.b"]


@pytest.mark.parametrize(
    "choice",
    [None, QueueChoice.of([f"q{one}" for one in range(1000)]), parsed("q*:2", "mail")],
    ids=["every queue", "a list", "a pattern"],
)
def test_a_thousand_queues_without_a_due_job_cost_an_idle_worker_one_statement(choice, store):
    store.insert([new_job(queue=f"q{one}") for one in range(1000)])
    Job.objects.update(run_after=in_future(timedelta(hours=1)))
    room = Room(store, queues=choice)
    room.fetch()  # looks for fair lines as well, as now and then without such tasks

    for _poll in range(3):
        with CaptureQueriesContext(connection) as asked:
            assert room.fetch() == []
        assert len(asked) == 1

    Job.objects.filter(queue="q7").update(run_after=in_future(timedelta(hours=-1)))
    assert room.fetch() == ["q7"]
