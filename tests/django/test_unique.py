"""Unique jobs: which calls are one, and what the second call gets."""

from datetime import timedelta
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.utils import timezone

from aftercommit import task
from aftercommit._compat import InvalidTask, task_backends, tasks_signals
from aftercommit.enqueue.unique import LONGEST_KEY, key_of
from aftercommit.errors import AftercommitError, ConfigurationError, JobExists
from aftercommit.models import Job
from aftercommit.options.conf import BackendOptions
from aftercommit.store import store_for
from aftercommit.values import Failed, Retry, RunError, Succeeded
from tests.django import unique_tasks as tasks
from tests.django.conftest import claim_only_job, only_job, ours
from tests.django.tasks import answer
from tests.django.unique_tasks import MOST, WAIT

pytestmark = pytest.mark.django_db(databases=["default", "other"])
LATER = timedelta(hours=1)
ERROR = RunError(exception_class_path="builtins.ValueError", traceback="ValueError: no")


def finish(claim, outcome):
    """End a run."""
    assert store_for("default").finish(claim, outcome)


def key(task, *args, **kwargs):
    """Return the key of a call."""
    return task_backends["default"].new_job(task, args, kwargs).unique_key


@pytest.fixture
def signals_of():
    """Collect the ids of the results that a signal of Django carries."""
    told = []

    def hear(sender, task_result, **_):
        told.append(task_result.id)

    def listen(name):
        getattr(tasks_signals, name).connect(hear)
        return told

    yield listen
    tasks_signals.task_enqueued.disconnect(hear)


# ---- which calls are one -------------------------------------------------------------


def test_a_second_call_gets_the_result_of_the_job_that_is_there():
    first = tasks.whole.enqueue(1)

    second = tasks.whole.enqueue(1)

    assert (second.id, second.state, second.args) == (first.id, "ready", [1])
    assert Job.objects.count() == 1


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, "sync"), {}),
        ((), {"user_id": 1}),
        ((), {"action": "sync", "user_id": 1}),
        ((1,), {"tags": []}),
        ((1,), {"tags": ()}),
    ],
)
def test_calls_that_give_the_function_the_same_values_are_one(args, kwargs):
    assert key(tasks.whole, *args, **kwargs) == key(tasks.whole, 1)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((2,), {}), (("1",), {}), ((1, "purge"), {}), ((1,), {"tags": ["a"]}), ((1,), {"when": 1})],
)
def test_other_values_are_another_call(args, kwargs):
    assert key(tasks.whole, *args, **kwargs) != key(tasks.whole, 1)


def test_dicts_are_compared_without_their_order():
    one = key(tasks.anything, {"a": 1, "b": 2}, x=1, y=2)

    assert one == key(tasks.anything, {"b": 2, "a": 1}, y=2, x=1)
    assert one != key(tasks.anything, {"b": 1, "a": 2}, y=2, x=1)


def test_arguments_that_are_not_named_do_not_count():
    assert key(tasks.by_user, 1, "a") == key(tasks.by_user, user_id=1, text="b")
    assert key(tasks.by_user, 1) != key(tasks.by_user, 2)


def test_no_names_at_all_make_the_whole_task_one():
    assert key(tasks.single, "a") == key(tasks.single, "b")


def test_a_name_may_be_among_free_keyword_arguments_and_may_be_missing():
    one = key(tasks.with_context, 1, 2, region="eu", other=1)

    assert one == key(tasks.with_context, 3, region="eu")
    assert one != key(tasks.with_context, 1, 2)


def test_two_tasks_never_share_a_key():
    assert key(tasks.by_user, 1) != key(tasks.last_wins, 1)
    one, other = tasks.by_user.using(unique_key="k"), tasks.last_wins.using(unique_key="k")
    assert key(one, 1) != key(other, 1)


def test_a_key_of_ones_own_counts_instead_of_the_arguments():
    mine = tasks.whole.using(unique_key="tenant 5")

    assert mine.enqueue(1).id == mine.enqueue(2).id
    assert only_job().unique_key == "tests.django.unique_tasks.whole:tenant 5"
    assert mine.enqueue(1).id != tasks.whole.enqueue(1).id


def test_a_key_makes_a_call_of_any_task_unique_until_it_is_finished():
    mine = tasks.by_user.using(unique_key="k")
    assert mine.unique == "until_finished"

    one = answer.using(unique_key="k")
    first = one.enqueue()
    claim_only_job()
    assert (one.enqueue().id, answer.unique) == (first.id, None)


def test_a_key_that_is_too_long_for_the_column_is_still_its_own():
    long = "x" * (LONGEST_KEY - 1)
    one, other = (tasks.whole.using(unique_key=long + end) for end in "ab")

    assert one.enqueue(1).id == one.enqueue(2).id != other.enqueue(1).id
    lengths = {len(found) for found in Job.objects.values_list("unique_key", flat=True)}
    assert lengths == {LONGEST_KEY}


def test_a_key_as_long_as_the_column_is_as_it_was_given():
    path = tasks.whole.module_path
    given = "x" * (LONGEST_KEY - len(path) - 1)

    assert key(tasks.whole.using(unique_key=given), 1) == f"{path}:{given}"
    assert len(key(tasks.whole.using(unique_key=given + "x"), 1)) == LONGEST_KEY
    assert key(tasks.whole.using(unique_key=given + "x"), 1) != f"{path}:{given}"


def test_thousands_of_calls_have_as_many_keys():
    assert len({key(tasks.whole, number) for number in range(3000)}) == 3000


def test_a_key_does_not_show_arguments():
    secret = "hunter2"
    tasks.whole.enqueue(secret)

    assert secret not in only_job().unique_key


def test_a_call_that_the_function_would_not_take_is_refused():
    with pytest.raises(TypeError, match="user_id"):
        tasks.whole.enqueue()
    with pytest.raises(TypeError, match="3 were given"):
        tasks.whole.enqueue(1, 2, 3)

    assert Job.objects.count() == 0


def test_key_of_reads_what_is_stored():
    tasks.by_user.enqueue(7, "text")

    assert key_of(tasks.by_user, only_job().payload) == only_job().unique_key


# ---- until when ----------------------------------------------------------------------


def test_until_finished_a_running_job_is_the_answer():
    first = tasks.whole.enqueue(1)
    claim = claim_only_job()

    second = tasks.whole.enqueue(1)
    finish(claim, Succeeded())
    third = tasks.whole.enqueue(1)

    assert (second.id, second.state, second.status.name) == (first.id, "running", "RUNNING")
    assert third.id != first.id


def test_until_started_a_running_job_is_not_in_the_way():
    first = tasks.started.enqueue(1)
    claim_only_job()

    second = tasks.started.enqueue(1)

    assert second.id != first.id
    assert tasks.started.enqueue(1).id == second.id


def test_the_answer_knows_how_the_job_was_enqueued():
    tasks.whole.using(priority=3, queue_name="mail").enqueue(1)

    found = tasks.whole.enqueue(user_id=1)

    assert (found.task.priority, found.task.queue_name) == (3, "mail")
    assert (found.args, found.kwargs) == ([1], {})
    found.refresh()
    assert found.state == "ready"


def test_a_failed_job_is_not_retried_beside_its_successor_and_stays_failed():
    first = tasks.whole.enqueue(1)
    finish(claim_only_job(), Failed(ERROR))
    second = tasks.whole.enqueue(1)
    store = store_for("default")

    answer = store.retry([UUID(first.id)])

    assert (answer.ready, answer.clashed) == (frozenset(), {UUID(first.id)})
    assert tasks.whole.get_result(first.id).state == "failed"
    assert store.cancel([UUID(second.id)]).cancelled
    assert store.retry([UUID(first.id)]).ready == {UUID(first.id)}
    assert tasks.whole.enqueue(1).id == first.id


def test_a_rollback_takes_the_job_and_its_key_back():
    with transaction.atomic():
        gone = tasks.whole.enqueue(1)
        transaction.set_rollback(True)

    assert tasks.whole.enqueue(1).id != gone.id


# ---- on_conflict ---------------------------------------------------------------------


def test_replace_gives_a_job_that_has_not_started_the_new_call():
    moment = timezone.now() + LATER
    first = tasks.last_wins.using(run_after=moment).enqueue(1, "first")

    second = tasks.last_wins.using(priority=5).enqueue(1, text="second")

    job = only_job()
    assert (second.id, second.args, second.kwargs) == (first.id, [1], {"text": "second"})
    assert (second.task.priority, second.task.run_after) == (5, None)
    assert (job.args, job.kwargs, job.priority) == ([1], {"text": "second"}, 5)
    assert job.run_after < moment
    assert claim_only_job().priority == 5


def test_replace_can_postpone():
    tasks.last_wins.enqueue(1)
    moment = timezone.now() + LATER

    tasks.last_wins.using(run_after=moment).enqueue(1)

    assert only_job().run_after == moment


def test_replace_leaves_a_job_alone_that_has_started():
    first = tasks.last_wins.enqueue(1, "first")
    claim = claim_only_job()
    running = tasks.last_wins.enqueue(1, "second")
    finish(claim, Retry(ERROR, LATER))

    waiting = tasks.last_wins.enqueue(1, "third")

    assert {running.id, waiting.id} == {first.id}
    assert (running.state, running.args) == ("running", [1, "first"])
    assert (waiting.state, only_job().args) == ("ready", [1, "first"])
    assert only_job().run_after > timezone.now() + LATER / 2


def test_raise_names_the_live_job():
    first = tasks.only_once.enqueue(1)

    with pytest.raises(JobExists, match=first.id) as refusal, transaction.atomic():
        tasks.only_once.enqueue(1)

    assert refusal.value.job_id == UUID(first.id)
    assert refusal.value.task_path == tasks.only_once.module_path
    assert isinstance(refusal.value, AftercommitError)
    assert Job.objects.count() == 1


def test_after_a_refusal_the_callers_transaction_goes_on():
    tasks.only_once.enqueue(1)

    with transaction.atomic():
        with pytest.raises(JobExists):
            tasks.only_once.enqueue(1)
        tasks.only_once.enqueue(2)

    assert Job.objects.count() == 2


def test_what_is_done_can_vary_by_call_and_by_backend(backends):
    first = tasks.whole.enqueue(1)
    with pytest.raises(JobExists):
        tasks.whole.using(on_conflict="raise").enqueue(1)

    backends(default=ours(on_conflict="raise"))
    with pytest.raises(JobExists):
        tasks.whole.enqueue(1)
    assert tasks.whole.using(on_conflict="return").enqueue(1).id == first.id


# ---- debounce ------------------------------------------------------------------------


def age(job_id, span):
    """Let a job have been enqueued earlier, as if time had passed."""
    row = Job.objects.get(id=job_id)
    Job.objects.filter(id=job_id).update(
        enqueued_at=row.enqueued_at - span, run_after=row.run_after - span
    )


def test_a_debounced_job_waits():
    tasks.debounced.enqueue(1)

    job = only_job()
    assert WAIT - timedelta(seconds=5) < job.run_after - job.enqueued_at <= WAIT
    assert tasks.debounced.unique == "until_started"


def test_each_call_pushes_the_start_and_the_last_text_counts():
    first = tasks.debounced.enqueue(1, "first")
    age(first.id, timedelta(seconds=20))
    before = only_job().run_after

    second = tasks.debounced.enqueue(1, "second")

    job = only_job()
    assert (second.id, second.args, job.args) == (first.id, [1, "second"], [1, "second"])
    assert timedelta(seconds=20) <= job.run_after - before < timedelta(seconds=40)


def test_a_debounced_job_can_keep_its_first_text():
    first = tasks.first_text.enqueue(1, "first")
    age(first.id, MOST * 10)
    before = only_job().run_after

    tasks.first_text.enqueue(1, "second")

    assert only_job().args == [1, "first"]
    assert only_job().run_after - before >= MOST * 10  # no ceiling is declared


def test_no_call_pushes_the_start_beyond_the_ceiling():
    first = tasks.debounced.enqueue(1)
    age(first.id, MOST - timedelta(seconds=10))
    tasks.debounced.enqueue(1)
    ceiling = only_job().enqueued_at + MOST
    assert only_job().run_after == ceiling

    age(first.id, timedelta(seconds=20))
    tasks.debounced.enqueue(1)

    assert only_job().run_after == ceiling - timedelta(seconds=20)  # both are aged


def test_a_call_never_makes_the_start_earlier():
    first = tasks.debounced.enqueue(1)
    later = only_job().run_after + timedelta(minutes=1)
    Job.objects.filter(id=first.id).update(run_after=later)

    tasks.debounced.enqueue(1)

    assert only_job().run_after == later


def test_a_ceiling_of_one_span_is_possible():
    fixed = task(debounce=WAIT, debounce_max=WAIT)(tasks.debounced.func)
    first = fixed.enqueue(1)
    age(first.id, WAIT / 2)
    before = only_job().run_after

    fixed.enqueue(1)

    # The row is some moments younger than the clock that its start was counted from.
    assert before <= only_job().run_after < before + WAIT / 4


def test_a_ceiling_below_the_span_is_refused():
    with pytest.raises(ConfigurationError, match="debounce_max"):
        task(debounce=WAIT, debounce_max=WAIT - timedelta(microseconds=1))(tasks.debounced.func)


def test_a_call_after_the_start_begins_anew():
    first = tasks.debounced.enqueue(1)
    age(first.id, MOST)
    claim_only_job()

    second = tasks.debounced.enqueue(1)

    assert second.id != first.id
    fresh = Job.objects.get(id=second.id)
    assert fresh.run_after - fresh.enqueued_at > WAIT - timedelta(seconds=5)


def test_a_debounced_call_takes_no_moment_of_its_own():
    later = tasks.debounced.using(run_after=timezone.now() + LATER)

    with pytest.raises(InvalidTask, match="debounce"):
        later.enqueue(1)
    with pytest.raises(InvalidTask, match="debounce"):
        later.enqueue_many([(1,)])


# ---- many ----------------------------------------------------------------------------


def test_many_calls_meet_the_jobs_that_are_there_and_each_other():
    there = tasks.by_user.enqueue(2)

    ids = tasks.by_user.enqueue_many([(1, "a"), {"user_id": 2}, [3], (1, "b")])

    assert ids[1] == there.id
    assert ids[0] == ids[3]
    assert len(set(ids)) == 3
    assert Job.objects.get(id=ids[0]).args == [1, "a"]
    assert Job.objects.count() == 3


def test_of_many_calls_with_a_key_the_last_replaces():
    ids = tasks.last_wins.enqueue_many([(1, "a"), (2, "x"), (1, "b"), (1, "c")])

    assert ids[0] == ids[2] == ids[3]
    assert Job.objects.get(id=ids[0]).args == [1, "c"]


def test_one_refusal_refuses_all_calls():
    there = tasks.only_once.enqueue(2)

    with pytest.raises(JobExists) as refusal:
        tasks.only_once.enqueue_many([(1,), (2,), (3,)])

    assert refusal.value.job_id == UUID(there.id)
    assert Job.objects.count() == 1


def test_a_call_that_is_there_twice_refuses_all_calls():
    with pytest.raises(JobExists, match="enqueue_many") as refusal:
        tasks.only_once.enqueue_many([(1,), (2,), (1,)])

    assert refusal.value.job_id is None
    assert Job.objects.count() == 0


def test_no_calls_are_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert tasks.only_once.enqueue_many([]) == []


def test_async_code_gets_the_same_answers():
    first = async_to_sync(tasks.whole.aenqueue)(1)

    assert async_to_sync(tasks.whole.aenqueue)(1).id == first.id
    assert async_to_sync(tasks.whole.aenqueue_many)([(1,)]) == [first.id]


# ---- what it costs, what is told -----------------------------------------------------


def test_a_task_that_is_not_unique_is_one_statement_as_ever(django_assert_num_queries):
    with django_assert_num_queries(1):
        answer.enqueue()

    job = only_job()
    assert (job.unique_key, job.unique_lock, job.unique_until_started) == (None, None, False)


def test_only_a_job_that_was_inserted_is_announced(signals_of):
    told = signals_of("task_enqueued")
    first = tasks.whole.enqueue(1)

    tasks.whole.enqueue(1)
    ids = tasks.whole.enqueue_many([(1,), (2,)])

    assert told == [first.id, ids[1]]


# ---- declarations --------------------------------------------------------------------


def body(user_id, text=""):
    """Take two arguments."""


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"unique": True}, "unique: expected 'until_started' or 'until_finished', got True"),
        ({"unique": "until_done"}, "got 'until_done'"),
        ({"unique": ["until_started"]}, "got a list"),
        ({"unique_by": ("user_id",)}, "unique_by says how a task is unique"),
        ({"on_conflict": "raise"}, "on_conflict says how a task is unique"),
        ({"debounce_max": MOST}, "debounce_max says how a task is unique"),
        ({"unique": "until_started", "unique_by": "user_id"}, "expected a list or a tuple"),
        ({"unique": "until_started", "unique_by": ("user",)}, "did you mean 'user_id'"),
        ({"unique": "until_started", "unique_by": ("zzz",)}, "it takes"),
        ({"unique": "until_started", "unique_by": (5,)}, "expected a name"),
        ({"unique": "until_started", "on_conflict": "ignore"}, "return, replace, raise"),
        ({"unique": "until_started", "debounce_max": MOST}, "add debounce"),
        ({"debounce": 30}, "expected a timedelta"),
        ({"debounce": timedelta(0)}, "above zero"),
        ({"debounce": MOST, "debounce_max": WAIT}, "must not be shorter"),
        ({"debounce": WAIT, "on_conflict": "raise"}, "leave one out"),
        ({"unique_key": ""}, "1 to 255 printable"),
        ({"unique_key": "a\nb"}, "1 to 255 printable"),
        ({"unique_key": "x" * 256}, "1 to 255 printable"),
        ({"unique_key": 5}, "got 5"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_the_declaration(options, sentence):
    with pytest.raises(ConfigurationError) as refusal:
        task(**options)(body)

    assert sentence in str(refusal.value)
    assert str(refusal.value).startswith(f"{__name__}.body: ")


def test_using_refuses_them_as_well():
    with pytest.raises(ConfigurationError, match="1 to 255"):
        tasks.whole.using(unique_key="")
    with pytest.raises(ConfigurationError, match="on_conflict"):
        answer.using(on_conflict="raise")
    with pytest.raises(TypeError, match=r"'debounce' cannot vary .* belongs to the declaration"):
        tasks.whole.using(debounce=WAIT)


def test_a_backend_refuses_what_it_cannot_do():
    with pytest.raises(ConfigurationError, match="on_conflict: expected one of return, replace"):
        BackendOptions(on_conflict="drop")
