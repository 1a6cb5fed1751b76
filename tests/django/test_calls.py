"""Calls: what is enqueued for them, and what is refused before anything is written."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from aftercommit import Call, chain, gather
from aftercommit._compat import tasks_signals
from aftercommit.errors import GraphError, JobExists, NeededJobMissing, PayloadError
from aftercommit.models import Dependency, Job
from aftercommit.worker.inline import InlineWorker
from tests.app.tasks import add, echo, fail, total
from tests.databases import ALIASES
from tests.django import tasks, unique_tasks

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)


def run():
    """Run all that is due, and all that is due then."""
    return InlineWorker().run()


def value(result):
    """Return what a task has returned."""
    result.refresh()
    return result.return_value


def state(result):
    """Return the state of a job."""
    result.refresh()
    return result.state


def test_a_call_is_a_task_with_its_arguments_that_is_not_enqueued():
    call = add.bind(1, second=2)

    assert isinstance(call, Call)
    assert (call.args, call.kwargs) == ((1,), {"second": 2})
    assert repr(call) == "<Call of tests.app.tasks.add>"
    assert not Job.objects.exists()


def test_it_is_enqueued_like_a_task():
    result = add.bind(1, second=2).using(priority=7, queue_name="mail").enqueue()

    job = Job.objects.get()
    assert str(job.id) == result.id
    assert (job.priority, job.queue, job.waits_because) == (7, "mail", None)
    assert (job.args, job.kwargs) == ([1], {"second": 2})
    assert job.needed is None
    assert run() == 1
    assert value(result) == 3


def test_a_call_in_the_arguments_stands_for_its_result_at_any_depth():
    one, two = add.bind(1, 1), add.bind(2, 2)

    result = echo.bind([{"deep": (one, 7)}], one, last={"list": [two]}).enqueue()

    assert Job.objects.get(id=result.id).waits_because == "jobs"
    assert Job.objects.count() == 3  # a call that is used twice is one job
    assert run() == 3
    assert value(result) == [[[{"deep": [2, 7]}], 2], {"last": {"list": [4]}}]


def test_a_whole_graph_is_enqueued_in_its_order():
    prices = [add.bind(number, 0) for number in range(4)]

    result = total.bind(prices, plus=total.bind(prices)).enqueue()

    rows = list(Job.objects.order_by("id").values_list("task_path", flat=True))
    assert [one.rpartition(".")[2] for one in rows] == ["add"] * 4 + ["total"] * 2
    assert Dependency.objects.count() == 4 + 5
    assert result.args == [[None] * 4]
    run()
    assert value(result) == 12
    assert (result.args, result.kwargs) == ([[0, 1, 2, 3]], {"plus": 6})


def test_it_is_a_part_of_the_callers_transaction():
    with pytest.raises(RuntimeError), transaction.atomic():
        total.bind([add.bind(1, 1)]).enqueue()
        raise RuntimeError

    assert not Job.objects.exists()
    assert not Dependency.objects.exists()


@pytest.mark.parametrize("count", [10, 1000])
def test_the_number_of_statements_does_not_grow_with_the_graph(count):
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        total.bind([add.bind(number, 0) for number in range(count)]).enqueue()

    # One for the jobs and one for the edges; MariaDB and SQLite take so many at once.
    most = {"postgresql": 5, "mysql": 10, "sqlite": 12}
    assert len(queries) <= most[connection.vendor]


def test_after_waits_without_taking_a_result():
    result = add.bind(1, 2).after(echo.bind("first"), echo.bind("second")).enqueue()

    run()

    assert value(result) == 3


def test_after_returns_the_call_itself():
    call = add.bind(1, 2)

    assert call.after(echo.bind()) is call


@pytest.mark.parametrize(
    ("on_failure", "becomes"),
    [("cancel", "cancelled"), ("fail", "failed"), ("run", "succeeded")],
)
def test_what_becomes_of_a_call_if_one_before_it_fails(on_failure, becomes):
    before = fail.using(max_attempts=1).bind("no")

    result = add.bind(1, 2).after(before, on_failure=on_failure).enqueue()

    run()
    assert state(result) == becomes
    if becomes != "succeeded":
        (error,) = result.errors
        assert error.exception_class_path == "aftercommit.errors.NeededJobFailed"
        assert "of tests.app.tasks.fail, which failed." in error.traceback


def test_after_says_so_for_an_argument_as_well():
    before = fail.using(max_attempts=1).bind("no")

    result = echo.bind(before, 1).after(before, on_failure="run").enqueue()

    assert Dependency.objects.count() == 1
    run()
    assert value(result) == [[None, 1], {}]


def test_a_call_can_wait_for_jobs_that_are_queued_or_have_ended():
    ended = add.enqueue(1, 2)
    run()
    queued = add.enqueue(3, 4)

    result = echo.bind(ended, queued, "x").after(ended).enqueue()
    at_once = total.bind([ended]).enqueue()

    assert Job.objects.get(id=at_once.id).args == [[3]]
    assert Job.objects.get(id=result.id).waits_because == "jobs"
    run()
    assert value(result) == [[3, 7, "x"], {}]
    assert value(at_once) == 3


def test_a_job_that_is_gone_is_an_error():
    result = add.enqueue(1, 2)
    Job.objects.all().delete()

    with pytest.raises(NeededJobMissing):
        add.bind(1, 2).after(result).enqueue()

    assert not Job.objects.exists()


def test_a_chain_runs_in_its_order():
    first, second, third = (echo.bind(number) for number in range(3))

    result = chain(first, second, third).enqueue()

    rows = [str(one) for one in Job.objects.order_by("id").values_list("id", flat=True)]
    assert rows[-1] == result.id
    ready = Job.objects.filter(claimable=True)
    assert [str(one.id) for one in ready] == rows[:1]
    assert run() == 3
    assert state(result) == "succeeded"


def test_a_chain_may_begin_with_a_result():
    begun = echo.enqueue(0)

    result = chain(begun, echo.bind(1), on_failure="run").enqueue()

    assert Dependency.objects.get().on_failure == "run"
    run()
    assert state(result) == "succeeded"


def test_a_long_chain_needs_no_deep_stack():
    result = chain(*(echo.bind() for _number in range(2000))).enqueue()

    assert Job.objects.count() == 2000
    assert Job.objects.get(claimable=True).id < Job.objects.get(id=result.id).id


def test_each_enqueue_makes_new_jobs():
    call = total.bind([add.bind(1, 1)])

    assert call.enqueue().id != call.enqueue().id

    assert Job.objects.count() == 4


def test_using_makes_another_call_that_needs_the_same():
    call = add.bind(1, 2).after(echo.bind())
    other = call.using(priority=3)

    assert other is not call
    assert other.needs == call.needs


def test_aenqueue_does_the_same():
    result = async_to_sync(total.bind([add.bind(1, 1)]).aenqueue)()

    run()
    assert value(result) == 2


def test_a_graph_in_gather_is_inserted_at_once_with_what_it_waits_for():
    with gather():
        before = add.enqueue(1, 2)
        result = total.bind([before]).enqueue()
        assert Job.objects.count() == 2

    run()
    assert value(result) == 3


def test_whoever_listens_hears_of_each_job():
    heard = []

    def listen(task_result, **_more):
        heard.append(task_result.id)

    tasks_signals.task_enqueued.connect(listen)
    try:
        result = total.bind([add.bind(1, 1), add.bind(2, 2)]).enqueue()
    finally:
        tasks_signals.task_enqueued.disconnect(listen)

    assert heard[-1] == result.id
    assert len(heard) == 3


# ---- unique, limited, fair ----------------------------------------------------------------


def test_whoever_waits_for_a_unique_call_waits_for_the_job_that_holds_its_key():
    held = unique_tasks.by_user.enqueue(7, "first")

    result = echo.bind(unique_tasks.by_user.bind(7, "second"), 1).enqueue()

    assert Job.objects.count() == 2
    assert str(Dependency.objects.get(job_id=result.id).needs_id) == held.id


def test_a_unique_call_that_meets_a_holder_does_not_wait():
    held = unique_tasks.by_user.enqueue(7, "first")

    result = unique_tasks.by_user.bind(7, "second").after(echo.bind()).enqueue()

    assert result.id == held.id
    assert not Dependency.objects.exists()
    assert Job.objects.count() == 2


def test_two_calls_with_the_same_unique_key_are_one_job():
    result = echo.bind(
        [unique_tasks.by_user.bind(7, "a"), unique_tasks.by_user.bind(7, "b")]
    ).enqueue()

    edge = Dependency.objects.get(job_id=result.id)
    assert json.loads(edge.place) == [["args", 0, 0], ["args", 0, 1]]


def test_a_unique_call_that_refuses_a_second_job_refuses_the_graph():
    unique_tasks.only_once.enqueue(7)

    with pytest.raises(JobExists):
        echo.bind(unique_tasks.only_once.bind(7), add.bind(1, 2)).enqueue()

    assert Job.objects.count() == 1


def test_a_key_that_depends_on_a_result_is_refused():
    with pytest.raises(GraphError, match=r"the unique key of .*whole depends on an argument"):
        unique_tasks.whole.bind(add.bind(1, 2)).enqueue()

    assert not Job.objects.exists()


def test_a_key_that_depends_on_given_arguments_only_is_fine():
    unique_tasks.by_user.bind(7, add.bind(1, 2)).enqueue()

    assert Job.objects.exclude(unique_key=None).count() == 1


@pytest.mark.parametrize("unique", [unique_tasks.last_wins, unique_tasks.debounced])
def test_a_call_that_would_change_another_job_cannot_wait(unique):
    with pytest.raises(GraphError, match="changes a job that is queued already"):
        unique.bind(7).after(echo.bind()).enqueue()

    assert not Job.objects.exists()


# ---- what is refused --------------------------------------------------------------------


def test_a_circle_is_refused_and_named():
    first, second, third = echo.bind(), add.bind(1, 2), total.bind([])
    chain(first, second, third, first)

    with pytest.raises(GraphError) as raised:
        third.enqueue()

    assert "tests.app.tasks.total needs tests.app.tasks.add needs tests.app.tasks.echo" in str(
        raised.value
    )
    assert not Job.objects.exists()


def test_a_call_that_holds_itself_is_a_circle():
    numbers = []
    call = total.bind(numbers)
    numbers.append(call)

    with pytest.raises(GraphError, match="in a circle"):
        call.enqueue()


def test_calls_in_different_databases_are_refused():
    with pytest.raises(GraphError, match=r"'default', .*elsewhere in 'other'"):
        echo.bind(tasks.elsewhere.bind()).enqueue()

    assert not Job.objects.exists()
    assert not Job.objects.using("other").exists()


def test_a_result_in_another_database_is_refused():
    result = tasks.elsewhere.enqueue()

    with pytest.raises(GraphError, match="is in the database 'other'"):
        echo.bind(result).enqueue()


def test_a_call_as_a_key_of_a_dict_is_refused():
    with pytest.raises(PayloadError, match="is not a string"):
        echo.bind({add.bind(1, 2): 1}).enqueue()

    assert not Job.objects.exists()


def test_arguments_that_the_function_does_not_take_are_refused_before_anything_is_written():
    with pytest.raises(TypeError, match=r"add\(\) missing"):
        echo.bind(add.bind(1)).enqueue()

    assert not Job.objects.exists()


def test_a_call_is_no_argument_of_a_job_that_is_enqueued_without_bind():
    with pytest.raises(PayloadError, match=r"bind\(\.\.\.\)\.enqueue\(\)"):
        echo.enqueue(add.bind(1, 2))


@pytest.mark.parametrize("other", [7, "id", None, echo])
def test_after_takes_only_calls_and_results(other):
    with pytest.raises(GraphError, match="calls and results"):
        echo.bind().after(other)


def test_a_rule_that_does_not_exist_is_refused():
    with pytest.raises(GraphError, match="'cancel', 'run', 'fail', got 'stop'"):
        echo.bind().after(add.bind(1, 2), on_failure="stop")


def test_a_chain_needs_calls():
    with pytest.raises(GraphError, match="no call to enqueue"):
        chain()
    with pytest.raises(GraphError, match="expects calls"):
        chain(echo.bind(), 7)


def test_a_list_that_holds_itself_is_refused():
    numbers = [add.bind(1, 2)]
    numbers.append(numbers)

    with pytest.raises(PayloadError):
        total.bind(numbers).enqueue()
