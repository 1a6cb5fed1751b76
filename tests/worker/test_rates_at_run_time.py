"""Rates at run time, from what operators set to what is claimed."""

import logging
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from aftercommit import queues
from aftercommit.models import Blocked, Job, Rule, State
from aftercommit.models import Rate as RateRow
from aftercommit.options.rate import rate_from
from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.assembly import assemble
from aftercommit.worker.config import served
from aftercommit.worker.inline import InlineWorker
from aftercommit.worker.upkeep.rates import RatePassage
from tests.worker.rig import commits, work
from tests.worker.room import Room, enqueue

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

ADD = "tests.app.tasks.add"
PATH = f"{__name__}.call"


def call(account, number=0):
    """Do nothing, for an account."""
    return number


def passage_of(room, store):
    """Return a passage that knows the rules of a room, and is told when they change."""
    passage = RatePassage(store, room.rules, news=lambda: None)
    closed = room.fetcher.closed

    def changed():
        passage.rates_changed()
        closed.rates_changed()

    room.rules.rates_changed = changed
    return passage


def rules_read(room):
    """Read the rules, as a worker does that was notified."""
    room.rules.expire()
    room.rules.refresh()


def parked():
    """Return how many jobs wait for a rate."""
    return Job.objects.filter(blocked=Blocked.RATE).count()


# ---- queues -------------------------------------------------------------------------


def test_a_queue_without_a_rate_is_rated_and_let_go(store):
    enqueue("mail", 10)
    room = Room(store)
    passage_of(room, store)
    queues.rate("mail", "3/h", burst=3)
    assert room.fetch() == ["mail"] * 3
    assert room.fetch() == []
    assert Room(store).fetch() == []  # a new worker knows

    queues.unrate("mail")
    rules_read(room)
    assert room.fetch() == ["mail"] * 7
    assert not Rule.objects.exists()


def test_one_that_is_closed_is_asked_as_soon_as_its_rate_is_higher(store):
    enqueue("mail", 10)
    room = Room(store)
    passage_of(room, store)
    queues.rate("mail", "1/h")
    assert room.fetch() == ["mail"]
    assert room.fetch() == []
    assert room.fetcher.closed.must_wait("mail")

    queues.rate("mail", "1/h", burst=5)
    rules_read(room)
    assert room.fetch() == ["mail"] * 4


def test_a_rate_at_run_time_goes_before_that_of_the_settings_and_leaves_it(store):
    enqueue("mail", 10)
    room = Room(store, queue_rates={"mail": rate_from("1/h", 2)})
    passage_of(room, store)
    queues.rate("mail", "1/h", burst=5)
    assert room.fetch() == ["mail"] * 5

    queues.unrate("mail")
    rules_read(room)
    assert room.fetch() == []
    assert room.rules.rates.of_queues == {"mail": rate_from("1/h", 2)}


def test_messages_for_a_broker_are_rated_together(store, settings):
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": {"relay": ["rq"]}}}
    for queue in ("relay.rq", "relay.rq.in_order"):
        enqueue(queue, 5)
    queues.rate(broker="rq", rate="1/h", burst=7)
    room = Room(store, relays=True)
    assert len(room.fetch()) == 7
    assert room.fetch() == []


def test_flush_queue_follows(store):
    enqueue("mail", 5)
    enqueue("default", 2)
    queues.rate("mail", "1/h", burst=3)
    assert InlineWorker().run() == 5


# ---- tasks --------------------------------------------------------------------------


def test_a_task_without_a_rate_is_rated_at_run_time(store):
    enqueue("default", 6)
    enqueue("mail", 6)
    room = Room(store)
    queues.rate(task=ADD, rate="1/h", burst=3)
    assert len(room.fetch()) == 3
    assert room.fetch() == []
    keys = set(Job.objects.values_list("rate_key", flat=True))
    assert len(keys) == 1
    assert None not in keys
    assert parked() == 9
    assert RateRow.objects.count() == 1


def test_others_go_on_beside_it(store, declare):
    enqueue("default", 20)
    declare(call).enqueue_many([(number,) for number in range(5)])
    queues.rate(task=ADD, rate="1/h")
    room = Room(store)
    claims = [claim for _twice in range(2) for claim, _facts in room.fetcher.fetch(limit=10)]
    claimed = [claim.task_path for claim in claims]
    assert claimed.count(ADD) == 1
    assert claimed.count(PATH) == 5


def test_a_limited_task_is_rated_at_run_time_and_keeps_its_limit(store, declare):
    limited = declare(call, limit=2, limit_by=("account",))
    limited.enqueue_many([(account,) for account in range(4) for _number in range(3)])
    queues.rate(task=PATH, rate="1/h", burst=5)
    room = Room(store)
    claims = [claim for claim, _facts in room.fetcher.fetch(limit=100)]
    assert 0 < len(claims) <= 5
    running = Job.objects.filter(state=State.RUNNING).values_list("limit_key", flat=True)
    assert all([*running].count(key) <= 2 for key in running)
    assert room.fetch() == []


def test_a_declared_rate_gives_way_and_holds_again(store, declare):
    rated = declare(call, rate="1/h", burst=1, rate_by=("account",))
    rated.enqueue_many([(account,) for account in (1, 2) for _number in range(6)])
    queues.rate(task=PATH, rate="1/h", burst=3)
    room = Room(store)
    passage = passage_of(room, store)
    assert len(room.fetch()) == 6  # three of each account

    queues.unrate(task=PATH)
    rules_read(room)
    passage.step()
    assert room.fetch() == []
    assert parked() == 6


def test_when_the_rate_goes_all_that_wait_are_let_through_at_once(store):
    enqueue("default", 10)
    room = Room(store)
    queues.rate(task=ADD, rate="1/h", burst=2)
    assert len(room.fetch()) == 2
    passage = passage_of(room, store)
    assert passage.step() > timedelta(0)
    assert parked() == 8

    queues.unrate(task=ADD)
    rules_read(room)
    passage.step()
    assert len(room.fetch()) == 8
    assert not Rule.objects.exists()


def test_a_higher_rate_lets_parked_jobs_through_at_once(store):
    enqueue("default", 10)
    room = Room(store)
    queues.rate(task=ADD, rate="1/h", burst=2)
    room.fetch()
    passage = passage_of(room, store)
    passage.step()

    queues.rate(task=ADD, rate="1/h", burst=6)
    rules_read(room)
    passage.step()
    assert len(room.fetch()) == 4


def test_a_sweep_reads_the_rules_itself_where_nobody_claims(store):
    enqueue("default", 10)
    room = Room(store)
    queues.rate(task=ADD, rate="1/h", burst=2)
    room.fetch()
    passage = passage_of(room, store)
    assert passage.step() <= timedelta(seconds=1)  # that is when it looks again

    queues.unrate(task=ADD)
    room.rules.expire()  # half a second later
    passage._next_sweep = 0
    passage.step()
    assert len(room.fetch()) == 8


def test_a_lower_rate_counts_from_the_next_start_on(store):
    enqueue("default", 10)
    room = Room(store)
    queues.rate(task=ADD, rate="1/h", burst=5)
    assert len(room.fetch(limit=2)) == 2
    queues.rate(task=ADD, rate="1/h", burst=3)
    rules_read(room)
    assert len(room.fetch()) == 1
    assert room.fetch() == []


def test_jobs_in_turn_are_rated_at_run_time(store, declare):
    fair = declare(call, fair_by=("account",))
    fair.enqueue_many([(account,) for account in range(3) for _number in range(5)])
    queues.rate(task=PATH, rate="1/h", burst=4)
    room = Room(store)
    fetched = [one for _time in range(6) for one in room.fetch()]
    assert len(fetched) == 4


def test_each_name_of_a_task_is_meant(store, declare):
    declare(call).enqueue_many([(number,) for number in range(3)])  # under its path
    moved = declare(call, name="billing.call", aliases=("old.call",))
    moved.enqueue_many([(number,) for number in range(3)])
    assert queues.rate(task="old.call", rate="1/h", burst=2).changed == [
        ("default", name) for name in ("billing.call", PATH, "old.call")
    ]
    assert len(Room(store).fetch()) == 2
    assert len(set(Job.objects.values_list("rate_key", flat=True))) == 1


def test_a_limit_and_a_rate_of_run_time_hold_both(store):
    enqueue("default", 10)
    queues.rate(task=ADD, rate="1/h", burst=5)
    queues.limit(task=ADD, limit=2)
    room = Room(store)
    assert len(room.fetch()) == 2
    Job.objects.filter(state=State.RUNNING).delete()
    queues.unlimit(task=ADD)
    rules_read(room)
    passage_of(room, store).step()
    while room.fetch():
        continue
    assert Job.objects.filter(state=State.RUNNING).count() <= 3


def test_a_whole_process_follows_with_its_next_look_at_the_rules(store, declare):
    declare(call).enqueue_many([(number,) for number in range(5)])
    enqueue("mail", 5)
    queues.rate(task=PATH, rate="1/h")
    queues.rate("mail", "1/h", burst=2)
    (one,) = served(WorkerConfig())
    rooms = assemble(one, worker_id=uuid4())
    assert rooms.rates.step() > timedelta(0)
    for _twice in range(2):
        rooms.fetcher.fetch(limit=100)
    assert parked() > 0
    assert rooms.fetcher.closed.must_wait("mail")

    queues.unrate(task=PATH)
    queues.unrate("mail")
    rooms.rules.expire()
    rooms.rules.refresh()
    assert not rooms.fetcher.closed.must_wait("mail")
    rooms.rates.step()
    assert parked() == 0


def test_who_rates_nothing_pays_no_statement(store):
    enqueue("default", 3)
    room = Room(store)
    room.fetch(limit=1)
    with CaptureQueriesContext(connection) as asked:
        assert room.fetch(limit=1) == ["default"]
    texts = " ".join(one["sql"] for one in asked)
    assert "aftercommit_rate" not in texts
    assert "rate_key" not in texts


def test_a_worker_runs_all_jobs_of_a_task_that_is_rated_at_run_time():
    enqueue("default", 30)
    queues.rate(task=ADD, rate="1000/s", burst=5)
    while Job.objects.exclude(state=State.SUCCEEDED).exists():
        assert work(threads=2) == 0
    assert Job.objects.filter(state=State.SUCCEEDED).count() == 30


def test_the_log_says_what_has_changed(store, caplog):
    caplog.set_level(logging.INFO, "aftercommit")
    enqueue("mail")
    queues.rate("mail", "60/m")
    queues.rate(task=ADD, rate="10 / 30s", burst=3)
    room = Room(store)
    room.fetch()
    queues.unrate("mail")
    rules_read(room)
    said = [one.getMessage() for one in caplog.records if "Database" in one.getMessage()]
    assert said == [
        "Database 'default': the queue 'mail' starts 60/m, burst 1",
        "Database 'default': the task 'tests.app.tasks.add' starts 10/30s, burst 3",
        "Database 'default': the queue 'mail' has no rate of the operators any more",
    ]
