"""enqueue_many(): thousands of jobs in one statement, all or none."""

import pytest
from asgiref.sync import async_to_sync

from aftercommit import enqueue_many
from aftercommit.errors import PayloadError
from aftercommit.models import Job
from tests.django import tasks
from tests.django.conftest import DUMMY, ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def stored(ids):
    """Return the arguments of jobs, in the order of the given ids."""
    found = {str(job.id): job for job in Job.objects.filter(id__in=ids)}
    return [(found[job_id].args, found[job_id].kwargs) for job_id in ids]


def test_a_call_is_a_tuple_or_a_list_or_a_dict():
    ids = tasks.note.enqueue_many([(1, 2), [3], {"key": 4}, (), {}])

    assert stored(ids) == [([1, 2], {}), ([3], {}), ([], {"key": 4}), ([], {}), ([], {})]


def test_ids_come_in_the_order_of_the_calls():
    calls = [(number,) for number in range(100)]

    ids = tasks.note.enqueue_many(calls)

    assert [args for args, _ in stored(ids)] == [[number] for number in range(100)]
    assert len(set(ids)) == 100


def test_thousands_are_one_statement(vendor, django_assert_num_queries):
    calls = ((number,) for number in range(2000))
    # MySQL and MariaDB: 500 rows a statement, in one transaction of a savepoint.
    expected = 4 + 2 if vendor == "mysql" else 1

    with django_assert_num_queries(expected):
        tasks.note.enqueue_many(calls)

    assert Job.objects.count() == 2000


def test_nothing_to_enqueue_is_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0):
        assert tasks.note.enqueue_many([]) == []


def test_one_call_that_cannot_be_stored_refuses_all(django_assert_num_queries):
    calls = [(1,), (2,), (object(),)]

    with django_assert_num_queries(0), pytest.raises(PayloadError, match=r"args\[0\]: object is"):
        tasks.note.enqueue_many(calls)


@pytest.mark.parametrize("call", ["abc", 5, None, {1, 2}, b"abc"])
def test_what_is_no_call_is_refused_by_its_place(call):
    with pytest.raises(
        TypeError, match=r"calls\[1\]: expected a tuple or list of positional arg"
    ):
        tasks.note.enqueue_many([(1,), call])

    assert not Job.objects.exists()


def test_options_hold_for_all_of_them():
    tasks.note.using(priority=5, queue_name="mail", max_attempts=2).enqueue_many([(), ()])

    rows = Job.objects.values_list("priority", "queue", "max_attempts", "backend", "state")
    assert list(rows) == [(5, "mail", 2, "default", "ready")] * 2


def test_they_live_where_their_backend_says():
    tasks.elsewhere.enqueue_many([(1,), (2,)])

    assert Job.objects.using("other").count() == 2
    assert not Job.objects.exists()


def test_the_function_and_its_async_twin_do_the_same():
    ids = enqueue_many(tasks.note, [(1,)])
    more_ids = async_to_sync(tasks.note.aenqueue_many)([(2,)])

    assert [args for args, _ in stored(ids + more_ids)] == [[1], [2]]


def test_each_has_a_limit_of_its_own(backends):
    backends(default=ours(max_payload=100))

    tasks.note.enqueue_many([("x" * 50,)] * 10)

    assert Job.objects.count() == 10


def test_on_a_backend_of_another_kind_they_are_enqueued_one_by_one(backends):
    backends(default=DUMMY)

    ids = tasks.note.enqueue_many([(1,), {"key": 2}])

    results = tasks.note.get_backend().results
    assert [result.id for result in results] == ids
    assert [(result.args, result.kwargs) for result in results] == [([1], {}), ([], {"key": 2})]


def test_one_call_that_the_function_does_not_take_refuses_all(django_assert_num_queries):
    with django_assert_num_queries(0), pytest.raises(TypeError, match="takes 0 positional"):
        tasks.answer.enqueue_many([(), (1,)])
