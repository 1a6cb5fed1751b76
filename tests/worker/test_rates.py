"""Rates, from the declaration of a task to the worker that runs its jobs."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import call_command
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from aftercommit import Retry, Snooze, enqueue_many, queues
from aftercommit.enqueue.limits import limit_of
from aftercommit.enqueue.moments import checked_end
from aftercommit.enqueue.rates import rate_of
from aftercommit.errors import ConfigurationError, NotRunByWorker
from aftercommit.models import Blocked, Job, State
from aftercommit.models import Rate as RateRow
from aftercommit.options.worker import WorkerConfig
from aftercommit.store import store_for
from aftercommit.store.rates.gate import RateGate
from aftercommit.values import FIRST_MOMENT
from aftercommit.worker.config import served
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.rules import RulesInForce
from aftercommit.worker.running.context import JobContext
from aftercommit.worker.upkeep.rates import RatePassage
from aftercommit.worker.worker import Worker
from tests.store.callers import statements
from tests.store.given import claim_all
from tests.waiting import wait_until
from tests.worker.rig import another_connection, commits, work
from tests.worker.room import Room, enqueue

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FAST = "100000/s"


def call(account, number=0):
    """Do nothing, for an account."""
    return number


def keys(name="rate_key"):
    """Return the keys of all jobs in the order of their ids."""
    return list(Job.objects.order_by("id").values_list(name, flat=True))


def states():
    """Return the states of all jobs in the order of their ids."""
    return list(Job.objects.order_by("id").values_list("state", flat=True))


# ---- the key ------------------------------------------------------------------------


def test_a_task_without_a_rate_has_no_key(declare):
    declare(call).enqueue(1)
    assert keys() == keys("limit_key") == [None]


def test_without_rate_by_all_jobs_of_a_task_have_one_key(declare):
    rated = declare(call, rate="60/m")
    rated.enqueue(1)
    enqueue_many(rated, [(2,), (3,)])
    assert len(set(keys())) == 1
    assert keys() == keys("limit_key")
    assert len(keys()[0]) == 64


def test_equal_values_of_rate_by_have_one_key_however_they_are_passed(declare):
    rated = declare(call, rate="60/m", rate_by=["account"])
    rated.enqueue(1, 5)
    rated.enqueue(account=1, number=6)
    enqueue_many(rated, [(1,), {"account": 2}])
    one, same, many, other = keys()
    assert one == same == many
    assert other != one


def test_a_limit_has_a_key_of_its_own(declare):
    rated = declare(call, rate="60/m", rate_by=("account",), limit=2, limit_by=("account",))
    rated.enqueue(1)
    assert keys() != keys("limit_key")


@pytest.mark.parametrize(
    ("rate_by", "limit_by", "is_shared"),
    [
        (("account",), (), True),
        (("account",), ("account",), True),
        ((), ("account",), False),
        (("number",), ("account",), False),
    ],
)
def test_whether_all_jobs_of_a_rate_have_the_same_limit_is_known(
    declare, rate_by, limit_by, is_shared
):
    rated = declare(call, rate="60/m", rate_by=rate_by, limit=2, limit_by=limit_by)
    assert limit_of(rated.module_path).shared_by_rate == is_shared
    assert not limit_of(declare(call, limit=2).module_path).shared_by_rate


# ---- the declaration ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rate": "often"}, "'60/m'"),
        ({"rate": 60}, "'60/m'"),
        ({"rate": ("60/m", 10)}, "'60/m'"),
        ({"rate": "60/m", "burst": 0}, "burst: expected a whole number"),
        ({"rate": "60/m", "burst": "3"}, "burst"),
        ({"rate": "60/m", "rate_by": "account"}, "rate_by: expected a list or a tuple"),
        ({"rate": "60/m", "rate_by": ("acount",)}, "did you mean 'account'"),
        ({"rate_by": ("account",)}, "add rate='60/m'"),
        ({"burst": 3}, "add rate='60/m'"),
        ({"rate": "60/m", "limit": 1, "ordered": True}, "ordered=True cannot be combined"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declare, options, said):
    with pytest.raises(ConfigurationError, match=said):
        declare(call, **options)


@pytest.mark.parametrize("option", [{"rate": "1/s"}, {"rate_by": ("number",)}, {"burst": 3}])
def test_a_call_cannot_have_a_rate_of_its_own(declare, option):
    with pytest.raises(TypeError, match="cannot vary"):
        declare(call, rate="60/m").using(**option)


def test_two_declarations_with_different_rates_clash(declare):
    first = declare(call, rate="60/m")
    assert rate_of(first.module_path).burst == 1
    assert rate_of("tests.nowhere.call") is None


# ---- the worker ---------------------------------------------------------------------


def test_a_drain_runs_what_may_start_and_leaves_what_waits(declare):
    declare(call, rate="1/h", burst=2).enqueue_many([(number,) for number in range(5)])
    assert work() == 0
    assert states() == [State.SUCCEEDED] * 2 + [State.READY] * 3
    assert Job.objects.filter(blocked=Blocked.RATE).count() == 3


def test_a_worker_starts_each_job_when_its_time_has_come(declare, running_worker):
    declare(call, rate="50/s").enqueue_many([(number,) for number in range(6)])
    running_worker()
    wait_until(lambda: set(states()) == {State.SUCCEEDED}, why="all have run")
    starts = sorted(Job.objects.values_list("claimed_at", flat=True))
    spans = [later - sooner for sooner, later in pairwise(starts)]
    assert min(spans) >= timedelta(milliseconds=20)


@pytest.fixture
def running_worker():
    """Return a function that starts a worker in a thread, which ends with the test."""
    started = []

    def start(**given):
        worker = Worker(WorkerConfig(**given), quota=RunQuota(None))
        thread = threading.Thread(target=worker.run)
        thread.start()
        started.append((worker, thread))

    yield start
    for worker, thread in started:
        worker.stop()
        thread.join()


def test_flush_queue_runs_what_may_start(declare, flush_queue):
    declare(call, rate="1/h", burst=2).enqueue_many([(number,) for number in range(5)])
    assert flush_queue() == 2
    assert flush_queue() == 0
    RateRow.objects.update(tat=timezone.now() - DAY)
    assert flush_queue() == 2
    assert states() == [State.SUCCEEDED] * 4 + [State.READY]


def test_jobs_of_other_keys_and_other_tasks_do_not_wait(declare):
    rated = declare(call, rate="1/h", rate_by=("account",))
    rated.enqueue_many([(account, number) for account in range(3) for number in range(2)])
    declare(another_call).enqueue(1)
    work()
    assert states() == [State.SUCCEEDED, State.READY] * 3 + [State.SUCCEEDED]


def another_call(account):
    """Be another task."""


def test_a_wrong_clock_of_the_worker_changes_nothing(declare, monkeypatch):
    declare(call, rate="1/h").enqueue_many([(1,), (2,)])
    work()
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + DAY)
    monkeypatch.setattr("time.time", lambda: now().timestamp() + DAY.total_seconds())
    store_for("default").let_start({keys()[0]: rate_of(f"{__name__}.call")})
    work()
    assert states() == [State.SUCCEEDED, State.READY]


# ---- queues -------------------------------------------------------------------------


def rated_room(settings, **rates):
    """Return the claiming of a process whose settings have these rates of queues."""
    options = {"queue_rates": rates}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    (one,) = served(WorkerConfig())
    return Room(store_for("default"), queue_rates=one.queue_rates)


def test_a_queue_is_asked_again_when_its_next_job_may_start(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    enqueue("mail", 5)
    enqueue("default", 2)
    room = rated_room(settings, mail=("1/h", 2))
    assert room.fetch() == ["default", "default", "mail", "mail"]
    with statements() as made:
        assert room.fetch() == []
    assert not any("mail" in str(given) for _sql, given in made)
    assert room.fetcher.closed.next_look(otherwise=DAY) <= timedelta(minutes=1)
    RateRow.objects.update(tat=timezone.now() - DAY)
    assert room.fetch() == []  # it looks again within a minute
    room.fetcher.closed.note("mail", timedelta(0))
    assert room.fetch() == ["mail", "mail"]


def test_a_process_claims_what_its_threads_can_begin_with(settings):
    settings.TASKS = {"default": settings.TASKS["default"]}
    enqueue("mail", 9)
    room = rated_room(settings, mail=("1/h", 9))
    room.fetcher.bounds.of_process(threads=3, runs=tuple)
    assert room.fetch() == ["mail"] * 3


def test_a_drain_and_flush_queue_run_what_may_start_of_a_queue(settings, flush_queue):
    options = {"queue_rates": {"mail": ("1/h", 2)}}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    enqueue("mail", 5)
    enqueue("default", 1)
    assert work() == 0
    assert Job.objects.filter(state=State.SUCCEEDED).count() == 3
    RateRow.objects.update(tat=timezone.now() - DAY)
    assert flush_queue() == 2
    assert Job.objects.filter(state=State.SUCCEEDED).count() == 5


def test_a_worker_wakes_when_the_next_job_of_a_queue_may_start(settings, running_worker):
    options = {"queue_rates": {"mail": "50/s"}, "poll_interval": timedelta(days=1)}
    settings.TASKS = {"default": {**settings.TASKS["default"], "OPTIONS": options}}
    enqueue("mail", 6)
    running_worker()
    wait_until(lambda: set(states()) == {State.SUCCEEDED}, why="all have run")
    starts = sorted(Job.objects.values_list("claimed_at", flat=True))
    assert min(later - sooner for sooner, later in pairwise(starts)) >= timedelta(milliseconds=20)


# ---- a provider has refused ---------------------------------------------------------


asked: list = []


def refused(context, account):
    """Ask a provider who refuses."""
    until, then = asked[0]
    context.rate_limited_until(until)
    if then is not None:
        raise then


async def arefused(context, account):
    """Ask a provider who refuses, without a thread."""
    until, then = asked[0]
    context.rate_limited_until(until)
    raise then


def in_an_hour(kind):
    """Return an end of a pause, as a span or a moment."""
    return HOUR if kind == "span" else timezone.now() + HOUR


def must_be_paused(*states_then):
    """Check that the key is paused for an hour, and what became of the jobs."""
    row = RateRow.objects.get()
    assert HOUR / 2 < row.paused_until - timezone.now() <= HOUR
    assert states() == list(states_then)


ENDS = [Snooze(HOUR), Retry(HOUR), ValueError("429"), None]


@pytest.mark.parametrize("kind", ["span", "moment"])
@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("then", ENDS, ids=lambda one: type(one).__name__)
def test_the_key_is_paused_however_the_task_ends(declare, kind, atomic, then):
    asked[:] = [(in_an_hour(kind), then)]
    rated = declare(refused, rate=FAST, burst=5, takes_context=True, atomic=atomic, backoff=HOUR)
    rated.enqueue(1)
    work(max_jobs=1)
    rated.enqueue(2)
    work()
    first = State.SUCCEEDED if then is None else State.READY
    must_be_paused(first, State.READY)
    assert Job.objects.latest("id").blocked == Blocked.RATE


def test_an_async_task_pauses_its_key_too(declare):
    asked[:] = [(HOUR, Snooze(HOUR))]
    declare(arefused, rate=FAST, burst=5, takes_context=True).enqueue(1)
    work()
    must_be_paused(State.READY)


def test_flush_queue_writes_the_pause_as_well(declare, flush_queue):
    asked[:] = [(HOUR, Retry(timedelta(0)))]
    declare(refused, rate=FAST, burst=5, takes_context=True, atomic=True).enqueue(1)
    assert flush_queue() == 1
    must_be_paused(State.READY)


YEAR = timedelta(days=365)
NO_ENDS = [3600, "1h", None, datetime(2030, 1, 1), datetime.max, YEAR, timedelta.max]


@pytest.mark.parametrize("until", [*NO_ENDS, timezone.now() + YEAR])
def test_what_is_no_end_of_a_pause_is_refused(declare, until):
    asked[:] = [(until, None)]
    declare(refused, rate=FAST, takes_context=True, max_attempts=1).enqueue(1)
    work()
    assert states() == [State.FAILED]
    (error,) = Job.objects.get().error_list
    assert "Nothing is paused" in error["traceback"]
    assert not RateRow.objects.filter(paused_until__isnull=False).exists()  # it may be pruned


def test_a_task_without_a_rate_has_nothing_to_pause(declare):
    asked[:] = [(HOUR, None)]
    declare(refused, takes_context=True, max_attempts=1).enqueue(1)
    work()
    (error,) = Job.objects.get().error_list
    assert "has no rate" in error["traceback"]


def test_a_job_that_pauses_without_a_rate_is_tried_again(declare):
    asked[:] = [(HOUR, None)]
    declare(refused, takes_context=True, max_attempts=2, backoff=HOUR).enqueue(1)
    work()
    assert states() == [State.READY]
    assert "Nothing is paused" in Job.objects.get().error_list[0]["traceback"]


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (3600, "expected a timedelta"),
        (datetime(2030, 1, 1), "has no time zone"),
        (YEAR, "more than 30 days"),
        (timezone.now() + YEAR, "milliseconds"),
        (datetime.max.replace(tzinfo=UTC), "more than 30 days"),
    ],
)
def test_the_refusal_says_what_is_wrong(until, said):
    with pytest.raises(ConfigurationError, match=said):
        checked_end(until)


def test_a_pause_of_30_days_and_one_that_is_over_are_possible():
    for until in (timedelta(days=30), -HOUR, timezone.now() - YEAR, FIRST_MOMENT):
        assert checked_end(until) == until


# ---- an operator ends it ------------------------------------------------------------


def paused_rates():
    """Return what is paused, without when."""
    return [(one.using, one.task, one.keys) for one in queues.paused_rates()]


@pytest.mark.parametrize("waiting", [0, 3])
def test_resume_ends_the_pauses_of_a_task_and_of_no_other(declare, waiting):
    asked[:] = [(HOUR, Snooze(timedelta(0)))]
    rated = declare(refused, rate=FAST, rate_by=("account",), burst=9, takes_context=True)
    other = declare(arefused, rate=FAST, burst=9, takes_context=True)
    for account in (1, 2):
        for _ in range(1 + waiting):
            rated.enqueue(account)
    other.enqueue(1)
    work()
    two = [("default", arefused_path(), 1), ("default", rated.module_path, 2)]
    assert paused_rates() == two

    assert queues.resume(task=rated).changed == [("default", rated.module_path)]
    assert paused_rates() == two[:1]
    assert queues.resume(task=rated).changed == []
    asked[:] = [(timedelta(0), None)]
    work()
    assert states() == [State.SUCCEEDED] * (2 + 2 * waiting) + [State.READY]


def arefused_path():
    """Return the path of the other task."""
    return f"{arefused.__module__}.arefused"


def test_queues_shows_what_is_paused(declare):
    asked[:] = [(HOUR, Snooze(HOUR))]
    rated = declare(refused, rate=FAST, takes_context=True)
    rated.enqueue(1)
    work()
    said, as_json = StringIO(), StringIO()
    call_command("aftercommit", "queues", stdout=said)
    call_command("aftercommit", "queues", "--json", stdout=as_json)
    (line,) = [one for one in said.getvalue().splitlines() if "rate" in one]
    assert line.startswith(f"default: the task {rated.module_path} has paused 1 rate key until 2")
    (row,) = [one for one in json.loads(as_json.getvalue()) if one.get("rate_paused")]
    assert (row["task"], row["rate_paused"]["keys"]) == (rated.module_path, 1)

    Job.objects.all().delete()
    assert paused_rates() == [("default", None, 1)]


def test_a_context_outside_a_worker_pauses_nothing():
    with pytest.raises(NotRunByWorker, match="rate_limited_until"):
        JobContext(task_result=None).rate_limited_until(HOUR)


# ---- what lets parked jobs start ----------------------------------------------------


@pytest.fixture
def parked(declare):
    """Return a store where four of five jobs wait, a passage that knows it, and its news."""
    declare(call, rate="1/h", burst=1).enqueue_many([(number,) for number in range(5)])
    store = store_for("default")
    passed = threading.Event()
    passage = RatePassage(store, RulesInForce(store), news=passed.set)
    assert len(claim(store, passage)) == 1
    return store, passage, passed


def claim(store, passage=None):
    """Claim what is due under the declared rates."""
    more = {} if passage is None else {"line_met": passage.line_met}
    return claim_all(store, limit_of=limit_of, rate_of=rate_of, **more)


def an_hour_later():
    """Let an hour pass for all keys."""
    for row in RateRow.objects.all():
        RateRow.objects.filter(key=row.key).update(tat=row.tat - HOUR)


def test_nobody_passes_before_the_time_has_come(parked):
    store, passage, passed = parked
    wait = passage.step()
    assert not passed.is_set()
    assert timedelta(0) < wait <= timedelta(seconds=1)
    assert claim(store) == []


def test_the_next_passes_when_the_time_has_come(parked):
    store, passage, passed = parked
    passage.step()
    an_hour_later()
    passage.line_met(keys()[0], f"{__name__}.call", timedelta(0))
    passage.step()
    assert passed.is_set()
    assert len(claim(store)) == 1


def test_what_a_worker_has_left_passes_with_the_next_sweep_of_any_other(parked):
    store, _passage, _passed = parked
    an_hour_later()
    RatePassage(store, RulesInForce(store), news=lambda: None).step()
    assert len(claim(store)) == 1


def test_a_rate_that_has_changed_is_noticed_with_the_next_sweep(parked, declare, monkeypatch):
    store, passage, passed = parked
    monkeypatch.setattr("aftercommit.worker.upkeep.rates.SWEEP_EVERY", timedelta(0))
    passage.step()
    declare(call)
    passage.step()
    assert passed.is_set()
    assert len(claim(store)) == 4


def test_jobs_of_a_task_that_the_worker_does_not_know_stay_parked(parked):
    store, _passage, passed = parked
    an_hour_later()
    Job.objects.update(task_path="tests.nowhere.call")
    RatePassage(store, RulesInForce(store), news=passed.set).step()
    assert not passed.is_set()


def test_a_key_whose_line_is_empty_is_forgotten(parked):
    store, passage, _passed = parked
    store.cancel(Job.objects.filter(state=State.READY).values_list("id", flat=True))
    passage.line_met(keys()[0], f"{__name__}.call", timedelta(0))
    passage.step()
    assert passage.empty
    assert passage._keys == {}


def no_answer(*_given, **_options):
    """Be a database that does not answer."""
    raise OperationalError("it does not answer")


def test_a_sweep_that_fails_keeps_no_worker_from_stopping(parked, monkeypatch):
    store, passage, _passed = parked
    monkeypatch.setattr(store, "rate_lines", no_answer)
    with pytest.raises(OperationalError):
        passage.step()
    assert passage.empty


def test_a_pause_is_written_when_the_database_answers_again(parked, monkeypatch):
    store, passage, _passed = parked
    job_id = Job.objects.first().id
    passage.pauses.ask(job_id, HOUR)
    with monkeypatch.context() as patch, pytest.raises(OperationalError):
        patch.setattr(store, "pause_rate", no_answer)
        passage.step()
    passage.step()
    assert RateRow.objects.get().paused_until > timezone.now()


def test_a_sweep_goes_on_where_it_has_ended(parked, declare, monkeypatch):
    store, passage, _passed = parked
    monkeypatch.setattr("aftercommit.worker.upkeep.rates.MOST_KEYS", 2)
    monkeypatch.setattr("aftercommit.worker.upkeep.rates.SWEEP_EVERY", timedelta(0))
    Job.objects.all().delete()
    rated = declare(call, rate="1/h", rate_by=("account",))
    rated.enqueue_many([(number,) for number in range(5) for _twice in range(2)])
    assert len(claim(store)) == 5
    with transaction.atomic():
        an_hour_later()

    def all_have_passed():
        passage.step()
        return not Job.objects.filter(blocked=Blocked.RATE).exists()

    wait_until(all_have_passed, why="every line was looked at")


@pytest.fixture
def locked_job(declare):
    """Have somebody's transaction hold the row of the only job that waits, and may start."""
    declare(call, rate="10/h", burst=10).enqueue_many([(number,) for number in range(11)])
    if connection.vendor == "sqlite":
        pytest.skip("SQLite locks the database, not rows")
    assert len(claim(store_for("default"))) == 10
    an_hour_later()
    with another_connection() as other:
        other.set_autocommit(False)
        first = Job.objects.filter(blocked=Blocked.RATE).earliest("id")
        given = [Job._meta.pk.get_db_prep_value(first.id, other)]
        with other.cursor() as cursor:
            cursor.execute("SELECT 1 FROM aftercommit_job WHERE id = %s FOR UPDATE", given)
        yield other
        other.rollback()


def test_while_a_transaction_holds_the_next_job_it_is_looked_at_less_and_less(
    locked_job,
):
    passage = RatePassage(
        store_for("default"), RulesInForce(store_for("default")), news=lambda: None
    )
    passage.step()
    waits = []
    for _time in range(9):
        for one in passage._keys.values():
            one.at = 0
        passage._next_sweep = time.monotonic() + DAY.total_seconds()
        passage.step()
        waits += [one.at - time.monotonic() for one in passage._keys.values()]
    assert waits[0] > 0
    assert max(waits) > 0.5
    assert passage.empty


def test_a_drain_ends_while_a_transaction_holds_the_next_job(locked_job):
    assert work() == 0
    locked_job.rollback()
    assert work() == 0
    assert states().count(State.SUCCEEDED) == 1


def test_a_key_that_is_locked_for_a_moment_is_waited_for(parked, monkeypatch):
    store, passage, _passed = parked
    passage.line_met(keys()[0], f"{__name__}.call", timedelta(0))
    with monkeypatch.context() as patch:
        patch.setattr(store, "let_start", lambda _rates: (0, {}))
        passage.step()
    assert not passage.empty


def test_a_drain_claims_again_while_others_have_a_key_locked(declare, monkeypatch):
    declare(call, rate="1/h", rate_by=("account",), limit=5).enqueue(1)
    pass_gate = RateGate._pass_gate
    busy = iter(range(5))

    def contended(self, query, candidates, held, lock):
        is_busy = next(busy, None) is not None
        return pass_gate(
            self, query, candidates, held, (lambda _keys: set()) if is_busy else lock
        )

    monkeypatch.setattr(RateGate, "_pass_gate", contended)
    assert work() == 0
    assert states() == [State.SUCCEEDED]
