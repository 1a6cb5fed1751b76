"""The fetcher: which queues are asked, in what order, and for what."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from aftercommit.enqueue.registry import registered
from aftercommit.models import Job, State
from aftercommit.options.choice import QueueChoice
from aftercommit.options.conf import BackendOptions
from aftercommit.worker.claiming import broker_backoff, broker_share, turns
from aftercommit.worker.claiming import fetcher as fetcher_module
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.claiming.in_order import InOrder
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.facts import Catalogue
from aftercommit.worker.in_flight import MOST
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from tests.app.tasks import add
from tests.store.given import new_job
from tests.worker.rig import LEASE, commits

pytestmark = commits

QUEUES = ["a", "b", "c"]
LONG_AGO = timedelta(hours=1)
LONG_AGO_AT = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def fetcher(store):
    """Return a function that builds one for queues."""

    def build(queues, leases=None):
        served = Served(
            using=store.alias,
            queues=None if queues is None else QueueChoice.of(queues),
            backends=(),
            options=BackendOptions(lease=LEASE),
            relays=False,
        )
        facts_of = Catalogue(lambda _facts: None).facts_of
        rules = RulesInForce(store)
        return Claiming(
            Fetcher(
                store,
                served,
                CrashedJobs(store, served, rules),
                leases or Leases(),
                rules,
                worker_id=uuid4(),
                facts_of=facts_of,
            )
        )

    return build


class Claiming:
    """Leaves out what a fetcher knows of each claim, once it is seen to be there."""

    def __init__(self, fetcher):
        self._fetcher = fetcher

    def fetch(self, *, limit):
        """Return the claims alone."""
        found = self._fetcher.fetch(limit=limit)
        assert all(facts.task is registered(claim.task_path) for claim, facts in found)
        return [claim for claim, _facts in found]

    @property
    def may_go_on(self):
        """Whether a queue can be claimed from that the last fetch has left out."""
        return self._fetcher.in_order.may_go_on


def enqueue(queue, number=1, **columns):
    """Enqueue so many jobs that are due; return their ids."""
    ids = [UUID(add.using(queue_name=queue).enqueue(1, 2).id) for _number in range(number)]
    if columns:
        Job.objects.filter(id__in=ids).update(**columns)
    return ids


def test_queues_are_asked_in_turn(fetcher):
    for queue in QUEUES:
        enqueue(queue, 3)
    room = fetcher(QUEUES)

    order = [claim.queue for _number in range(9) for claim in room.fetch(limit=1)]

    assert [set(order[first : first + 3]) for first in (0, 3, 6)] == [set(QUEUES)] * 3


def test_a_full_queue_does_not_starve_the_others(fetcher):
    enqueue("a", 20, priority=100)
    (job_id,) = enqueue("b", priority=-100)
    room = fetcher(["a", "b"])

    claims = [*room.fetch(limit=2), *room.fetch(limit=2)]

    assert job_id in [claim.job_id for claim in claims]


def test_one_fetch_takes_from_many_queues_and_no_more_than_it_may(fetcher):
    for queue in QUEUES:
        enqueue(queue, 3)
    room = fetcher(QUEUES)

    claims = room.fetch(limit=4)

    assert len(claims) == 4
    assert len({claim.queue for claim in claims}) == 2
    assert len(room.fetch(limit=100)) == 5
    assert room.fetch(limit=100) == []


def test_only_the_queues_that_were_named_are_asked(fetcher):
    enqueue("a")
    enqueue("other")

    claims = fetcher(["a"]).fetch(limit=10)

    assert [claim.queue for claim in claims] == ["a"]


def test_without_names_every_queue_is_asked_new_ones_too(fetcher):
    room = fetcher(None)
    assert room.fetch(limit=10) == []
    enqueue("one")
    enqueue("two")

    claims = room.fetch(limit=10)

    assert {claim.queue for claim in claims} == {"one", "two"}


def test_a_task_that_is_not_known_stays_ready_and_is_not_asked_for_again(fetcher, caplog):
    (job_id,) = enqueue("a", task_path="tests.app.tasks.gone")
    due = Job.objects.get(id=job_id).run_after
    room = fetcher(["a"])

    assert room.fetch(limit=10) == []
    assert room.fetch(limit=10) == []

    job = Job.objects.get(id=job_id)
    assert (job.state, job.attempts, job.token) == (State.READY, 0, 1)
    assert job.run_after == due  # so that its age is seen
    assert caplog.text.count("tests.app.tasks.gone") == 1


def test_tasks_that_are_not_known_hide_no_others(fetcher):
    enqueue("a", 5, task_path="tests.app.tasks.gone", priority=100)
    (job_id,) = enqueue("a")
    room = fetcher(["a"])

    claims = [claim for _number in range(2) for claim in room.fetch(limit=2)]

    assert [claim.job_id for claim in claims] == [job_id]


@pytest.mark.parametrize("priority", [-100, 0, 100])
def test_jobs_of_an_alias_that_tasks_does_not_name_hide_no_others(priority, fetcher, caplog):
    foreign = enqueue("a", 400, backend="gone", priority=priority, run_after=LONG_AGO_AT)
    enqueue("b", 5, backend="gone", priority=priority)
    (job_id,) = enqueue("a")
    room = fetcher(None)

    with CaptureQueriesContext(connection) as asked:
        claims = [claim for _number in range(3) for claim in room.fetch(limit=2)]

    assert [claim.job_id for claim in claims] == [job_id]
    assert len(asked) < 30
    assert caplog.text.count("'gone'") == 1
    untouched = Job.objects.filter(id__in=foreign, state=State.READY, token=0, attempts=0)
    assert untouched.count() == 400


def test_many_queues_from_which_nothing_can_be_claimed_cost_little(fetcher, store, monkeypatch):
    monkeypatch.setattr(turns, "MOST_IN_VAIN", 4)
    store.insert([new_job(queue=f"q{one}", task_path="shop.tasks.gone") for one in range(100)])
    room = fetcher(None)
    assert room.fetch(limit=1) == []  # it learns that it does not have this task
    Job.objects.update(run_after=LONG_AGO_AT)
    room.fetch(limit=100)

    with CaptureQueriesContext(connection) as asked:
        assert room.fetch(limit=100) == []
    each = 1 if connection.vendor != "mysql" else 6
    assert len(asked) <= each * (2 * turns.MOST_IN_VAIN + 4)

    enqueue("q7")
    enqueue("new")
    found = [claim.queue for _number in range(30) for claim in room.fetch(limit=100)]
    assert sorted(found) == ["new", "q7"]


@pytest.fixture
def asked(store, monkeypatch):
    """Return the list of claims: the queue of each, and how many jobs it got."""
    real, asked = store.claim, []

    def claim(query):
        claims = real(query)
        asked.append((query.queue, len(claims)))
        return claims

    monkeypatch.setattr(store, "claim", claim)
    return asked


def look_each_time(monkeypatch):
    """Let each claim of a busy worker look for due jobs."""
    monkeypatch.setattr(fetcher_module, "LOOK_EVERY", timedelta(0))
    monkeypatch.setattr(fetcher_module, "SHARE", 1000)


def test_a_queue_that_was_empty_does_not_wait_for_the_end_of_a_backlog(
    fetcher, asked, monkeypatch
):
    look_each_time(monkeypatch)
    enqueue("a", 60)
    enqueue("b")
    room = fetcher(None)
    for _round in range(3):
        asked.clear()
        for _number in range(8):
            room.fetch(limit=1)
        assert ("b", 0) in asked  # it is empty, and was asked
        ids = enqueue("b", 2)

        seen = [claim.job_id for _number in range(6) for claim in room.fetch(limit=1)]

        assert set(ids) <= set(seen)


def test_queues_that_must_not_be_asked_do_not_hide_the_others(monkeypatch):
    monkeypatch.setattr(turns, "MOST_IN_VAIN", 2)
    held, queues = {"h1", "h2", "h3"}, ["h1", "h2", "h3", "last"]
    order = turns.Turns(may_ask=lambda queue: queue not in held)
    for queue in queues:
        order.asked(queue, in_vain=True)

    assert list(order.order(queues)) == ["last"]
    order.looked(queues)
    assert list(order.order(queues)) == ["last"]


def test_queues_that_are_asked_in_vain_go_ahead_in_turn_and_not_without_end(monkeypatch):
    monkeypatch.setattr(turns, "MOST_AHEAD", 2)
    order = turns.Turns(may_ask=lambda _queue: True)
    for queue in ("v1", "v2", "v3"):
        order.asked(queue, in_vain=True)

    seen = []
    for _look in range(2):
        order.looked(["a", "v1", "v2", "v3"])
        for _fetch in range(3):
            order.begin()
            seen.append(next(order.order(["a", "v1", "v2", "v3"])))

    assert seen == ["v1", "v2", "a", "v3", "v1", "a"]


def test_a_job_that_cannot_be_read_hides_no_others(fetcher):
    enqueue("a", 3, payload="{", priority=100)
    (job_id,) = enqueue("a")
    room = fetcher(["a"])

    assert job_id in [claim.job_id for _number in range(2) for claim in room.fetch(limit=3)]


def test_claims_are_not_forgotten_when_the_next_queue_fails(fetcher, store, monkeypatch):
    for queue in QUEUES:
        enqueue(queue)
    real, asked = store.claim, []

    def claim(query):
        asked.append(query.queue)
        if len(asked) == 2:
            raise OperationalError
        return real(query)

    monkeypatch.setattr(store, "claim", claim)
    room = fetcher(QUEUES)

    first = room.fetch(limit=10)
    second = room.fetch(limit=10)

    assert len(first) == 1
    assert len(second) == 2
    assert not Job.objects.filter(state=State.READY).exists()


def test_claims_are_not_forgotten_when_the_next_queue_raises_what_is_no_database_error(
    fetcher, store, monkeypatch
):
    for queue in QUEUES:
        enqueue(queue)
    real, asked = store.claim, []

    def claim(query):
        asked.append(query.queue)
        if len(asked) == 2:
            raise ValueError
        return real(query)

    monkeypatch.setattr(store, "claim", claim)
    room = fetcher(QUEUES)

    assert len(room.fetch(limit=10)) == 1
    with pytest.raises(ValueError, match=r"^$"):  # it is not swallowed
        room.fetch(limit=10)
    assert len(room.fetch(limit=10)) == 2


def test_a_call_to_a_broker_may_end_while_it_is_asked_for_its_age(monkeypatch):
    class Ending(list):
        def __len__(self):
            return 1  # as it was a moment ago

    monkeypatch.setitem(broker_share._began, "relay.rq", Ending())
    assert not broker_share.is_used_up("relay.rq")


def test_queues_with_messages_in_order_may_be_asked_while_others_look_at_them():
    class Open:
        def is_open(self, _lease_id):
            return True

    in_order = InOrder(Open())
    in_order._latest = {"a": {uuid4()}, "b": {uuid4()}}
    assert in_order.must_wait("a")
    others = iter(in_order._waits_for)
    assert in_order.must_wait("b")
    assert len(list(others)) == 1
    assert len(in_order._waits_for) == 2


def test_a_database_that_does_not_answer_at_all_is_told(fetcher, store, monkeypatch):
    def claim(_query):
        raise OperationalError

    enqueue("a")
    monkeypatch.setattr(store, "claim", claim)

    with pytest.raises(OperationalError):
        fetcher(["a"]).fetch(limit=1)


def test_messages_in_order_are_claimed_when_the_outcomes_of_those_before_are_written(
    fetcher, store
):
    leases = Leases()
    enqueue("relay.rq.in_order", 60)
    enqueue("relay.rq", 60)
    room = fetcher(["relay.rq.in_order", "relay.rq"], leases=leases)

    first = room.fetch(limit=200)
    ordered = [claim for claim in first if claim.queue == "relay.rq.in_order"]
    assert (len(first), len(ordered)) == (60 + MOST, MOST)  # what one thread takes
    assert room.fetch(limit=200) == []
    for claim in ordered[:-1]:
        leases.confirmed(claim)
    assert not room.may_go_on
    assert room.fetch(limit=200) == []
    leases.confirmed(ordered[-1])

    assert room.may_go_on
    assert len(room.fetch(limit=200)) == 60 - MOST


def test_a_queue_whose_broker_is_away_is_left_alone_and_the_others_are_not(store, fetcher):
    enqueue("paused")
    enqueue("open")
    broker_backoff.back_off("paused", timedelta(hours=1))
    fetch = fetcher(["paused", "open"]).fetch
    try:
        assert [claim.queue for claim in fetch(limit=5)] == ["open"]
        assert fetch(limit=5) == []
    finally:
        broker_backoff.resume("paused")
    assert [claim.queue for claim in fetch(limit=5)] == ["paused"]


@pytest.mark.parametrize(("queue", "priority"), [("b", 0), ("a", 50)], ids=["queue", "priority"])
def test_a_worker_that_always_finds_some_looks_for_what_is_new(
    fetcher, queue, priority, monkeypatch
):
    """Some, but never as many as it may claim: it is not idle, and its claims are not full."""
    look_each_time(monkeypatch)
    room = fetcher(None)
    enqueue("a")
    room.fetch(limit=5)
    (job_id,) = enqueue(queue, priority=priority)

    seen = []
    for _number in range(5):
        enqueue("a")
        seen += [claim.job_id for claim in room.fetch(limit=5)]

    assert job_id in seen


def test_queues_that_had_jobs_a_moment_ago_do_not_make_claims_expensive(fetcher):
    room = fetcher(None)
    for number in range(20):
        enqueue(f"q{number}")
    while room.fetch(limit=50):
        continue
    enqueue("q7")

    with CaptureQueriesContext(connection) as asked:
        assert len(room.fetch(limit=4)) == 1
        assert room.fetch(limit=4) == []

    assert len(asked) < (20 if connection.vendor == "postgresql" else 30)
