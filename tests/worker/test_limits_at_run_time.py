"""Limits of queues and limits at run time, from the settings and operators to what is claimed."""

import logging
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit import queues
from aftercommit.models import Blocked, Job, Rule, State
from aftercommit.options.worker import WorkerConfig
from aftercommit.store.clock import DatabaseNow
from aftercommit.worker.config import served
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.upkeep.limits import Passage
from tests.worker.rig import commits, work
from tests.worker.room import Room, enqueue

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

ADD = "tests.app.tasks.add"


def end_all(number=100, **of):
    """End so many of the runs."""
    rows = Job.objects.filter(state=State.RUNNING, **of).order_by("id")
    ids = list(rows.values_list("id", flat=True)[:number])
    ended = {"state": State.SUCCEEDED, "slot": None, "finished_at": DatabaseNow()}
    Job.objects.filter(id__in=ids).update(**ended)


def running(**of):
    """Return how many run."""
    return Job.objects.filter(state=State.RUNNING, **of).count()


def limited_room(store, settings, **limits):
    """Return the claiming of a process whose settings have these limits."""
    options = {"queue_limits": limits}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    (one,) = served(WorkerConfig())
    return Room(store, queue_limits=one.queue_limits)


# ---- queues -------------------------------------------------------------------------


def test_a_limit_in_the_settings_counts_for_each_claim(store, settings):
    enqueue("mail", 5)
    enqueue("default", 5)
    room = limited_room(store, settings, mail=2)

    assert room.fetch() == ["default"] * 5 + ["mail"] * 2
    assert room.fetch() == []
    end_all()
    assert room.fetch() == ["mail"] * 2


def test_one_that_is_full_keeps_no_other_from_its_jobs(store, settings):
    enqueue("mail", 50)
    room = limited_room(store, settings, mail=1)
    assert room.fetch() == ["mail"]

    enqueue("default", 3)
    assert room.fetch(limit=2) == ["default"] * 2
    assert room.fetch(limit=2) == ["default"]


def test_a_process_leaves_places_to_others_that_could_begin_at_once(store, settings):
    enqueue("mail", 30)
    enqueue("default", 30)
    room = limited_room(store, settings, mail=6)
    here = []
    room.fetcher.bounds.of_process(threads=4, runs=lambda: here)

    class Run:
        def __init__(self, claim):
            self.claim = claim

    claims = [claim for claim, _facts in room.fetcher.fetch(limit=100)]
    here += map(Run, claims)
    assert [one.queue for one in claims].count("mail") == 4
    assert [one.queue for one in claims].count("default") == 30
    assert room.fetch() == ["mail"]  # half of those that are left
    assert room.fetch() == []
    assert Room(store, queue_limits=room.rules.queue_limits).fetch() == ["mail"]


def test_a_limit_at_run_time_goes_before_that_of_the_settings_and_leaves_it(store, settings):
    enqueue("mail", 30)
    room = limited_room(store, settings, mail=2)
    queues.limit("mail", 5)
    assert len(room.fetch()) == 5

    queues.limit("mail", 1)
    room.rules.expire()
    assert room.fetch() == []
    end_all(4)
    assert room.fetch() == []
    end_all()
    assert room.fetch() == ["mail"]

    queues.unlimit("mail")
    room.rules.expire()
    assert room.fetch() == ["mail"]
    assert running() == 2
    assert not Rule.objects.exists()


def test_a_queue_without_a_limit_can_be_limited_and_let_go(store):
    enqueue("mail", 30)
    room = Room(store)
    queues.limit("mail", 3)
    assert len(room.fetch()) == 3
    assert len(Room(store).fetch()) == 0  # a new worker knows

    queues.unlimit("mail")
    room.rules.expire()
    assert len(room.fetch()) == 27


def test_messages_for_a_broker_are_limited_together(store, settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"relay": ["rq"]}}}
    for queue in ("relay.rq", "relay.rq.in_order"):
        enqueue(queue, 5)
    queues.limit(broker="rq", limit=7)
    room = Room(store, relays=True)
    assert len(room.fetch()) == 7
    assert room.fetch() == []


def test_jobs_with_crashes_count_too(store, settings):
    enqueue("mail", 3, crashes=1)
    room = limited_room(store, settings, mail=1)
    alone = Room(store, crashed=True, queue_limits=room.rules.queue_limits)
    assert alone.fetch() == ["mail"]
    enqueue("mail")
    assert room.fetch() == []


@pytest.mark.parametrize("threads", [1, 8])
def test_a_worker_runs_all_jobs_of_a_limited_queue(settings, threads):
    options = {"queue_limits": {"mail": 2}}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    enqueue("mail", 40)
    enqueue("default", 40)
    assert work(threads=threads) == 0
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def test_flush_queue_runs_them_and_ends_although_others_have_all_slots(store, settings):
    room = limited_room(store, settings, mail=1)
    enqueue("mail", 3)
    assert InlineWorker().run() == 3

    enqueue("mail", 3)
    enqueue("default", 2)
    room.fetch()
    end_all(queue="default")
    enqueue("default")
    assert InlineWorker().run() == 1
    assert Job.objects.filter(state=State.READY, queue="mail").count() == 2


def test_a_full_queue_costs_flush_queue_a_few_statements_and_not_some_for_each_job(
    store, settings
):
    room = limited_room(store, settings, mail=1)
    enqueue("mail", 60)
    assert room.fetch() == ["mail"]
    enqueue("default", 2)
    with CaptureQueriesContext(connection) as asked:
        assert InlineWorker().run() == 2
    assert len([one for one in asked if "aftercommit_slot" in one["sql"]]) < 20


# ---- tasks --------------------------------------------------------------------------


def call(account, number=0):
    """Do nothing, for an account."""
    return number


def passage_of(room, store):
    """Return a passage that knows the rules of a room."""
    return Passage(store, room.rules, news=lambda: None)


def test_a_task_without_a_limit_is_limited_at_run_time(store):
    enqueue("default", 10)
    enqueue("mail", 10)
    room = Room(store)
    queues.limit(task=ADD, limit=3)
    assert len(room.fetch()) == 3
    assert room.fetch() == []
    keys = set(Job.objects.values_list("limit_key", flat=True))
    assert len(keys) == 1
    assert None not in keys
    assert Job.objects.filter(blocked=Blocked.LIMIT).count() == 17

    end_all(1)
    passage_of(room, store).step()
    assert len(room.fetch()) == 1


def test_others_go_on_beside_it(store, declare):
    declare(call).enqueue_many([(number,) for number in range(5)])
    enqueue("default", 300)
    declare(call).enqueue_many([(number,) for number in range(5)])
    queues.limit(task=ADD, limit=1)
    room = Room(store)
    claimed = [claim.task_path for claim, _facts in room.fetcher.fetch(limit=20)]
    claimed += [claim.task_path for claim, _facts in room.fetcher.fetch(limit=20)]
    assert claimed.count(ADD) == 1
    assert len(claimed) == 11


def test_when_the_rule_goes_all_are_let_through(store):
    enqueue("default", 10)
    room = Room(store)
    queues.limit(task=ADD, limit=2)
    assert len(room.fetch()) == 2
    passage = passage_of(room, store)
    passage.step()

    queues.unlimit(task=ADD)
    room.rules.expire()
    passage._next_sweep = 0
    passage.step()
    assert len(room.fetch()) == 8
    assert not Rule.objects.exists()
    assert not Job.objects.filter(blocked__isnull=False, state=State.READY).exists()


def test_a_higher_limit_lets_parked_jobs_through_at_once(store):
    enqueue("default", 10)
    room = Room(store)
    queues.limit(task=ADD, limit=2)
    room.fetch()
    passage = passage_of(room, store)
    room.rules.limits_changed = passage.limits_changed
    assert passage.step() > timedelta(0)

    queues.limit(task=ADD, limit=6)
    room.rules.expire()  # notified, or half a second later
    room.rules.refresh()
    assert passage.step() > timedelta(0)
    assert len(room.fetch()) == 4


def test_a_lower_limit_lets_nobody_start_until_enough_have_ended(store):
    enqueue("default", 10)
    room = Room(store)
    queues.limit(task=ADD, limit=5)
    assert len(room.fetch()) == 5
    queues.limit(task=ADD, limit=2)
    room.rules.expire()
    passage = passage_of(room, store)
    for ended, passed in ((3, 0), (1, 1)):
        end_all(ended)
        passage.step()
        passage._next_sweep = 0
        assert len(room.fetch()) == passed
    assert running() == 2


def test_a_declared_limit_gives_way_and_holds_again(store, declare):
    declare(call, limit=2, limit_by=("account",)).enqueue_many(
        [(account,) for account in (1, 2) for _number in range(5)]
    )
    queues.limit(task=call.__module__ + ".call", limit=3)
    room = Room(store)
    assert len(room.fetch()) == 6  # three of each account
    queues.unlimit(task=call.__module__ + ".call")
    room.rules.expire()
    end_all(2)
    passage_of(room, store).step()
    assert room.fetch() == ["default"]


def test_each_name_of_a_task_is_meant(store, declare):
    path = f"{call.__module__}.call"
    declare(call).enqueue_many([(number,) for number in range(3)])  # under its path
    moved = declare(call, name="billing.call", aliases=("old.call",))
    moved.enqueue_many([(number,) for number in range(3)])
    Job.objects.filter(id=Job.objects.order_by("id").last().id).update(task_path="old.call")
    assert queues.limit(task="old.call", limit=2).changed == [
        ("default", name) for name in ("billing.call", path, "old.call")
    ]
    assert len(Room(store).fetch()) == 2
    assert len(set(Job.objects.values_list("limit_key", flat=True))) == 1


def test_a_task_that_is_imported_later_is_limited_then(store, declare, monkeypatch):
    declare(call).enqueue_many([(number,) for number in range(3)])
    queues.limit(task=f"{call.__module__}.call", limit=1)
    room = Room(store)
    with monkeypatch.context() as patch:
        patch.setattr("aftercommit.worker.rules.known_task", lambda _path: None)
        room.rules.refresh()
        assert room.rules.limited == {}
    room.rules.expire()
    assert len(room.fetch()) == 1


def test_a_paused_and_limited_task_is_resumed_under_its_limit(store):
    enqueue("default", 10)
    room = Room(store)
    queues.limit(task=ADD, limit=2)
    queues.pause(task=ADD)
    assert room.fetch() == []
    queues.resume(task=ADD)
    room.rules.expire()
    assert len(room.fetch()) == 2
    assert [one.limit for one in queues.limits()] == [2]


def test_who_limits_nothing_pays_no_statement(store):
    enqueue("default", 3)
    room = Room(store)
    room.fetch(limit=1)
    with CaptureQueriesContext(connection) as asked:
        assert room.fetch(limit=1) == ["default"]
    texts = " ".join(one["sql"] for one in asked)
    assert "aftercommit_slot" not in texts
    assert "limited" not in texts


def test_a_worker_runs_all_jobs_of_a_task_that_is_limited_at_run_time():
    enqueue("mail", 20)
    enqueue("default", 20)
    queues.limit(task=ADD, limit=2)
    assert work(threads=4) == 0
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def test_flush_queue_follows_too(store):
    enqueue("default", 5)
    queues.limit(task=ADD, limit=1)
    assert InlineWorker().run() == 5


def test_the_log_says_what_has_changed(store, caplog):
    caplog.set_level(logging.INFO, "aftercommit")
    enqueue("mail")
    queues.limit("mail", 1)
    queues.limit(task=ADD, limit=12)
    room = Room(store)
    room.fetch()
    queues.unlimit("mail")
    room.rules.expire()
    room.rules.refresh()
    said = [one.getMessage() for one in caplog.records if "Database" in one.getMessage()]
    assert said == [
        "Database 'default': the queue 'mail' runs 1 jobs at once at most",
        "Database 'default': the task 'tests.app.tasks.add' runs 12 jobs at once at most",
        "Database 'default': the queue 'mail' has no limit of the operators any more",
    ]
