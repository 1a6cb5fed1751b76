"""Limits, from the declaration of a task to the worker that runs its jobs."""

import threading
from datetime import timedelta

import pytest
from django.db import OperationalError
from django.utils import timezone

from aftercommit import enqueue_many, task
from aftercommit._compat import InvalidTask
from aftercommit.enqueue import registry
from aftercommit.errors import ConfigurationError
from aftercommit.models import Blocked, Job, State
from aftercommit.store import store_for
from aftercommit.values import Succeeded
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.upkeep.limits import Passage
from tests.store.given import claim_all
from tests.waiting import wait_until
from tests.worker.rig import commits, work
from tests.worker.room import Room

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

AT_ONCE = timedelta(0)
HOUR = timedelta(hours=1)


def call(account, number=0):
    """Do nothing, for an account."""
    return number


def keys():
    """Return the keys of all jobs in the order of their ids."""
    return list(Job.objects.order_by("id").values_list("limit_key", flat=True))


# ---- the key ------------------------------------------------------------------------


def test_a_task_without_a_limit_has_no_key(declare):
    declare(call).enqueue(1)
    assert keys() == [None]


def test_without_limit_by_all_jobs_of_a_task_have_one_key(declare):
    limited = declare(call, limit=2)
    limited.enqueue(1)
    enqueue_many(limited, [(2,), (3,)])
    assert len(set(keys())) == 1
    assert None not in keys()


def test_equal_values_of_limit_by_have_one_key_however_they_are_passed(declare):
    limited = declare(call, limit=2, limit_by=["account"])
    limited.enqueue(1, 5)
    limited.enqueue(account=1, number=6)
    enqueue_many(limited, [(1,), {"account": 2}])
    one, same, many, other = keys()
    assert one == same == many
    assert other != one


def test_a_default_counts_as_its_value(declare):
    limited = declare(call, limit=2, limit_by=("number",))
    limited.enqueue(1)
    limited.enqueue(2, 0)
    assert len(set(keys())) == 1


def test_numbers_and_texts_are_different_keys(declare):
    limited = declare(call, limit=2, limit_by=("account",))
    limited.enqueue("a")
    limited.enqueue("A")
    limited.enqueue("1")
    limited.enqueue(1)
    assert len(set(keys())) == 4


def test_two_tasks_share_no_key(declare):
    def other(account):
        """Be another task."""

    declare(call, limit=1).enqueue(1)
    registry._declared.pop(f"{other.__module__}.{other.__qualname__}", None)
    with pytest.raises(InvalidTask):
        task(limit=1)(other)  # a local function
    declare(another_call, limit=1).enqueue(1)
    assert len(set(keys())) == 2


def another_call(account):
    """Be another task."""


def test_a_call_that_has_no_key_is_refused(declare):
    limited = declare(call, limit=2, limit_by=("account",))
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        limited.enqueue()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limit": 0}, "limit: expected a whole number"),
        ({"limit": True}, "limit: expected a whole number"),
        ({"limit": 1, "limit_by": "account"}, "limit_by: expected a list or a tuple"),
        ({"limit": 1, "limit_by": ["acount"]}, "did you mean 'account'"),
        ({"limit_by": ["account"]}, "limit_by says how a limit counts"),
        ({"ordered": True}, "ordered says how a limit counts"),
        ({"limit": 2, "ordered": True}, "ordered=True needs limit=1"),
        ({"limit": 1, "ordered": "yes"}, "ordered: expected True or False"),
    ],
)
def test_options_that_are_not_possible_are_refused(declare, options, says):
    with pytest.raises(ConfigurationError, match=says):
        declare(call, **options)


NOTHING = object()


def with_a_sentinel(account=NOTHING, region=("north", 1)):
    """Have a default that no call could pass, and one that is stored as another type."""


def test_a_default_that_is_no_json_cannot_count(declare):
    with pytest.raises(ConfigurationError, match="the default of 'account' is object, which is"):
        declare(with_a_sentinel, limit=1, limit_by=["account"])
    limited = declare(with_a_sentinel, limit=1, limit_by=["region"])
    limited.enqueue(1)
    limited.enqueue(1, ["north", 1])
    assert len(set(keys())) == 1


@pytest.mark.parametrize(
    "given", [{"priority": 5}, {"queue_name": "mail"}, {"run_after": timezone.now() + HOUR}]
)
def test_an_ordered_call_cannot_leave_its_line(declare, given):
    ordered = declare(call, limit=1, ordered=True)
    with pytest.raises(InvalidTask, match="cannot be given for a call of a task with ordered"):
        ordered.using(**given).enqueue(1)


def test_a_limit_cannot_vary_from_call_to_call(declare):
    with pytest.raises(TypeError, match="'limit' cannot vary from call to call"):
        declare(call, limit=2).using(limit=3)


# ---- the worker ---------------------------------------------------------------------

most = []
order = []
failing = []


def watch(account):
    """Note how many jobs of this account have a slot."""
    running = Job.objects.filter(state=State.RUNNING, limit_key__isnull=False)
    most.append(running.filter(payload__contains=f"[{account}]").count())


@pytest.mark.parametrize("atomic", [False, True])
def test_a_worker_runs_all_jobs_and_never_more_than_the_limit_at_once(declare, atomic):
    most.clear()
    limited = declare(watch, limit=2, limit_by=("account",), atomic=atomic)
    limited.enqueue_many([(number % 2,) for number in range(20)])
    work(threads=8)
    assert len(most) == 20
    assert max(most) <= 2
    assert set(Job.objects.values_list("state", flat=True)) == {State.SUCCEEDED}


def in_order(account, number):
    """Note the call; some fail at first."""
    order.append((account, number))
    if failing and failing[0] == number:
        failing.pop(0)
        raise ValueError("at first")


def test_jobs_of_an_ordered_key_run_in_order_also_through_retries(declare):
    order.clear()
    failing[:] = [2, 2, 4]
    ordered = declare(in_order, limit=1, ordered=True, limit_by=("account",), backoff=AT_ONCE)
    ordered.enqueue_many([(account, number) for number in range(6) for account in range(3)])
    work(threads=8)
    for account in range(3):
        numbers = [number for one, number in order if one == account]
        assert numbers == sorted(numbers)
        assert set(numbers) == set(range(6))
    assert len(order) == 18 + 3


def test_flush_queue_runs_limited_jobs_as_well(declare, flush_queue):
    order.clear()
    failing.clear()
    ordered = declare(in_order, limit=1, ordered=True)
    ordered.enqueue_many([(1, number) for number in range(4)])
    assert flush_queue() == 4
    assert order == [(1, number) for number in range(4)]


# ---- what lets parked jobs pass -----------------------------------------------------


@pytest.fixture
def parked(declare):
    """Return how many jobs may run of five, by a limit of one, and a passage."""
    declare(call, limit=1).enqueue_many([(number,) for number in range(5)])
    store = store_for("default")
    passed = threading.Event()
    return store, Passage(store, RulesInForce(store), news=passed.set), passed


def claim(store):
    """Claim what is due under the declared limits."""
    from aftercommit.enqueue.limits import limit_of  # noqa: PLC0415

    return claim_all(store, limit_of=limit_of)


def test_the_next_job_passes_at_once_when_a_run_has_ended(parked):
    store, passage, passed = parked
    (running,) = claim(store)
    passage.step()
    assert not passed.is_set()
    store.finish(running, Succeeded())
    passage.freed(running)
    assert not passage.empty
    passage.step()
    assert passed.is_set()
    assert passage.empty
    assert len(claim(store)) == 1


def test_a_higher_limit_is_noticed_without_an_end(parked, declare):
    store, passage, passed = parked
    claim(store)
    declare(call, limit=4)
    wait = passage.step()
    assert passed.is_set()
    assert wait < timedelta(seconds=1)
    assert len(claim(store)) == 3


def test_a_task_whose_limit_was_taken_away_has_no_parked_jobs_left(parked, declare):
    store, passage, _passed = parked
    claim(store)
    declare(call)
    passage.step()
    assert len(claim(store)) == 4


def test_jobs_of_a_task_that_the_worker_does_not_know_stay_parked(parked, monkeypatch):
    store, passage, passed = parked
    (running,) = claim(store)
    store.finish(running, Succeeded())
    Job.objects.update(task_path="tests.nowhere.call")
    passage.step()
    assert not passed.is_set()


def no_answer(*_given, **_options):
    """Be a database that does not answer."""
    raise OperationalError("it does not answer")


def test_a_sweep_that_fails_keeps_no_worker_from_stopping(parked, monkeypatch):
    store, passage, _passed = parked
    monkeypatch.setattr(store, "parked_keys", no_answer)
    with pytest.raises(OperationalError):
        passage.step()
    assert passage.empty


@pytest.mark.parametrize("fails", ["parked_keys", "let_pass"])
def test_the_end_of_a_run_is_followed_when_the_database_answers_again(parked, monkeypatch, fails):
    store, passage, passed = parked
    (running,) = claim(store)
    store.finish(running, Succeeded())
    passage.freed(running)
    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(store, fails, no_answer)
        passage.step()
    assert not passage.empty
    monkeypatch.setattr(store, "parked_keys", lambda **_given: [])
    passage.step()
    assert passed.is_set()
    assert passage.empty


def test_what_a_worker_has_left_passes_with_the_next_sweep_of_any_other(parked):
    store, _passage, _passed = parked
    (running,) = claim(store)
    store.finish(running, Succeeded())  # and the worker dies here
    another = Passage(store, RulesInForce(store), news=lambda: None)
    another.step()
    assert len(claim(store)) == 1


def test_a_sweep_goes_on_where_it_has_ended(parked, declare, monkeypatch):
    store, passage, _passed = parked
    monkeypatch.setattr("aftercommit.worker.upkeep.limits.MOST_KEYS", 2)
    Job.objects.all().delete()
    limited = declare(call, limit=1, limit_by=("account",))
    limited.enqueue_many([(number,) for number in range(5) for _twice in range(2)])
    running = claim(store)
    assert len(running) == 5
    for one in running:
        store.finish(one, Succeeded())

    def all_have_passed():
        passage.step()
        return not Job.objects.filter(blocked=1).exists()

    wait_until(all_have_passed, why="every key was looked at")


# ---- while the threads are busy -------------------------------------------------------


class Run:
    """A run of this process."""

    def __init__(self, claim, *, is_over):
        self.claim, self.is_over = claim, is_over


@pytest.fixture
def five_jobs(declare):
    """Return what claims from five jobs, of which two may run at once."""
    limited = declare(call, limit=2)
    enqueue_many(limited, [(number,) for number in range(5)])
    return Room(store_for("default")).fetcher


def parked_now():
    """Return how many wait aside."""
    return Job.objects.filter(blocked=Blocked.LIMIT).count()


def test_jobs_without_a_slot_stay_where_they_are_while_no_thread_is_idle(five_jobs):
    five_jobs.bounds.of_process(threads=2, runs=tuple)
    assert len(five_jobs.fetch(limit=10)) == 2
    assert five_jobs.bounds.short_of_slots
    assert parked_now() == 0


def test_they_are_parked_for_an_idle_thread(five_jobs):
    five_jobs.bounds.of_process(threads=3, runs=tuple)
    assert len(five_jobs.fetch(limit=10)) == 2
    assert not five_jobs.bounds.short_of_slots
    assert parked_now() == 3


@pytest.mark.parametrize(("is_over", "parked"), [(True, 0), (False, 3)])
def test_they_wait_for_ends_that_are_to_be_written(five_jobs, is_over, parked):
    runs = []
    five_jobs.bounds.of_process(threads=9, runs=lambda: runs)
    runs += [Run(claim, is_over=is_over) for claim, _facts in claimed(five_jobs)]
    assert five_jobs.fetch(limit=10) == []
    assert parked_now() == parked


def claimed(fetcher):
    """Claim as many as have slots, and leave the others claimable."""
    claims = fetcher.fetch(limit=2)
    waiting = Job.objects.filter(blocked=Blocked.LIMIT)
    waiting.update(blocked=None, claimable=True, waits_for=0)
    return claims
