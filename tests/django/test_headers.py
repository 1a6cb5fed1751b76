"""Headers: small texts about the enqueuer, which travel with a job."""

from base64 import urlsafe_b64encode
from contextlib import contextmanager

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from aftercommit import Secret, chain, enqueue_many, gather, group, schedule, task
from aftercommit.errors import ConfigurationError, PayloadError, PayloadTooLarge
from aftercommit.models import Job
from aftercommit.stored import read_headers
from tests.app.models import Account
from tests.django import unique_tasks
from tests.django.conftest import only_job, ours

pytestmark = pytest.mark.django_db

seen = []  # what the functions were called with


@task
def plain(number):
    """Do nothing."""


@task
def other(number):
    """Do nothing."""


def said():
    """Do nothing."""


@pytest.fixture
def writing(backends):
    """Return a function that lets functions write headers."""
    seen.clear()

    def writing(*functions, **options):
        backends(default=ours(headers=list(functions), **options))

    return writing


def trace(enqueuing):
    seen.append(enqueuing)
    return {"trace": f"{len(seen)}"}


def traces():
    """Return the headers of all jobs, in the order of their calls."""
    return [read_headers(one.headers) for one in Job.objects.order_by("id")]


def test_a_job_has_none_if_nobody_writes_them():
    plain.enqueue(1)

    assert only_job().headers is None


def test_who_writes_no_headers_sends_the_same_statement(writing):
    with CaptureQueriesContext(connection) as before:
        plain.enqueue(1)
    writing(trace)
    with CaptureQueriesContext(connection) as after:
        plain.enqueue(1)

    inserted = [found.captured_queries[0]["sql"] for found in (before, after)]
    assert [", headers" in one.replace("`", "") for one in inserted] == [False, True]


def test_a_job_has_those_of_its_call(writing):
    writing(trace)

    result = plain.using(queue_name="mail").enqueue(1)

    assert traces() == [{"trace": "1"}]
    (enqueuing,) = seen
    assert (enqueuing.name, enqueuing.task.module_path) == (plain.module_path, plain.module_path)
    assert (enqueuing.job_ids, enqueuing.queue) == ([result.id], "mail")
    assert (enqueuing.backend, enqueuing.using, enqueuing.broker) == ("default", "default", None)


def test_the_context_of_the_caller_is_that_of_a_coroutine(writing):
    writing(trace)

    async_to_sync(plain.aenqueue)(1)

    assert traces() == [{"trace": "1"}]


def test_jobs_of_one_call_have_the_same(writing):
    writing(trace)

    ids = enqueue_many(plain, [(1,), (2,)])

    assert traces() == [{"trace": "1"}] * 2
    assert [list(one.job_ids) for one in seen] == [ids]


def test_many_jobs_with_secrets_or_keys_have_them_too(writing):
    writing(trace, secret_keys=[urlsafe_b64encode(bytes(32)).decode()])

    enqueue_many(plain, [(Secret("a"),), (Secret("b"),)])
    enqueue_many(unique_tasks.by_user, [(1,), (2,)])

    assert traces() == [{"trace": "1"}] * 2 + [{"trace": "2"}] * 2


def test_gathered_jobs_have_those_of_their_calls(writing):
    writing(trace)

    with gather():
        plain.enqueue(1)
        enqueue_many(other, [(2,), (3,)])

    assert traces() == [{"trace": "1"}, {"trace": "2"}, {"trace": "2"}]


def test_the_calls_of_a_graph_have_those_of_their_task(writing):
    writing(trace)

    chain(plain.bind(1), other.bind(2), plain.bind(3)).enqueue()

    found = [(one.task_path, read_headers(one.headers)) for one in Job.objects.all()]
    assert len(found) == 3
    assert len(seen) == 2
    of_plain = [headers for path, headers in found if path == plain.module_path]
    assert len(of_plain) == 2
    assert of_plain[0] == of_plain[1]


def test_the_jobs_of_a_group_have_them(writing):
    writing(trace)

    group([plain.bind(1), plain.bind(2)]).enqueue()

    assert traces() == [{"trace": "1"}] * 2


def test_a_call_of_schedule_has_them(writing):
    writing(trace, allowed_functions=["tests.django.test_headers"])

    schedule("tests.django.test_headers.said")

    assert traces() == [{"trace": "1"}]


def test_several_functions_write_them_and_the_last_one_wins(writing):
    writing(lambda _: {"a": "1", "b": "1"}, lambda _: None, lambda _: {"b": "2"})

    plain.enqueue(1)

    assert traces() == [{"a": "1", "b": "2"}]


def test_middleware_may_bring_the_function(backends):
    def factory(get_result):
        return get_result

    factory.headers = lambda _enqueuing: {"by": "middleware"}
    backends(default=ours(middleware=[factory]))

    plain.enqueue(1)

    assert traces() == [{"by": "middleware"}]


def test_functions_are_named_by_their_paths(writing):
    writing("tests.django.test_headers.trace")

    plain.enqueue(1)

    assert len(traces()) == 1


def test_a_context_manager_stands_around_the_insert(writing):
    log = []

    @contextmanager
    def around(_enqueuing):
        log.append(Job.objects.count())
        yield {"trace": "around"}
        log.append(Job.objects.count())

    writing(around)

    plain.enqueue(1)

    assert (log, traces()) == ([0, 1], [{"trace": "around"}])


def test_it_hears_that_the_insert_failed(writing):
    heard = []

    @contextmanager
    def around(_enqueuing):
        try:
            yield {}
        except Exception as error:
            heard.append(type(error).__name__)
            raise

    writing(around)

    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        plain.enqueue(1)

    assert heard == ["TransactionManagementError"]


def test_it_cannot_hide_that_the_insert_failed(writing):
    @contextmanager
    def swallowing(_enqueuing):
        try:
            yield {}
        except Exception:
            return

    writing(swallowing)

    with pytest.raises(ConfigurationError, match="suppressed"), transaction.atomic():
        transaction.set_rollback(True)
        plain.enqueue(1)


def test_nothing_is_enqueued_if_a_function_raises(writing):
    def broken(_enqueuing):
        raise LookupError("no tenant")

    writing(broken)

    with pytest.raises(LookupError, match="no tenant"):
        plain.enqueue(1)

    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ("text", ConfigurationError, "Return a dict of texts"),
        ([("a", "b")], ConfigurationError, "Return a dict of texts"),
        ({"a": 1}, PayloadError, r"headers\['a'\].*a header is a text"),
        ({"a": None}, PayloadError, "a header is a text"),
        ({1: "a"}, PayloadError, "1 to 100 printable characters"),
        ({"": "a"}, PayloadError, "1 to 100 printable characters"),
        ({"a\n": "a"}, PayloadError, "1 to 100 printable characters"),
        ({"a" * 101: "a"}, PayloadError, "1 to 100 printable characters"),
        ({"a": "x" * 20_000}, PayloadTooLarge, "the headers"),
    ],
    ids=str,
)
def test_what_cannot_be_stored_is_refused(writing, given, error, said):
    writing(lambda _enqueuing: given)

    with pytest.raises(error, match=said):
        plain.enqueue(1)

    assert not Job.objects.exists()


@pytest.mark.parametrize("value", ["", "ü", "\0", "\ud800", "'\"\\", "%s {} :x"])
def test_any_text_comes_back(writing, value):
    writing(lambda _enqueuing: {"a": value})

    plain.enqueue(1)
    enqueue_many(plain, [(1,), (2,)])

    assert [one["a"] for one in traces()] == [value] * 3


def test_a_replaced_job_has_the_headers_of_the_call_whose_arguments_it_has(writing):
    writing(trace)

    for number in "12":
        unique_tasks.last_wins.enqueue("same", number)

    assert (only_job().args[1], traces()) == ("2", [{"trace": "2"}])


def test_a_job_that_exists_keeps_its_headers(writing):
    writing(trace)

    for _number in "12":
        unique_tasks.by_user.enqueue(1)

    assert traces() == [{"trace": "1"}]


def test_headers_may_distinguish_unique_jobs(writing):
    tenant = ["a"]

    def tenants(_enqueuing):
        return {"tenant": tenant[0]}

    tenants.distinguish = ("tenant",)
    writing(tenants)

    for tenant[0] in "aab":
        unique_tasks.by_user.enqueue(1)

    assert sorted(one["tenant"] for one in traces()) == ["a", "b"]


def test_a_rollback_takes_them_along(writing):
    writing(trace)

    with transaction.atomic():
        Account.objects.create(balance=1)
        plain.enqueue(1)
        transaction.set_rollback(True)

    assert len(seen) == 1


def test_a_function_that_is_not_there_is_an_error_of_the_call(writing):
    writing("tests.nowhere.function")

    with pytest.raises(ConfigurationError, match=r"headers names .*nowhere"):
        plain.enqueue(1)


@pytest.mark.parametrize("name", ["middleware", "headers"])
def test_what_is_no_function_is_refused(backends, name):
    backends(default=ours(**{name: [5]}))

    with pytest.raises(ConfigurationError, match=f"{name}: expected a list of functions"):
        plain.enqueue(1)
