"""enqueue(): a task becomes a row, checked before it is written."""

from datetime import UTC, date, datetime, timedelta
from datetime import timezone as fixed
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import async_to_sync
from django.db import connection
from django.test import override_settings
from django.utils import timezone
from django.utils.timezone import make_aware

from aftercommit import schedule
from aftercommit._compat import InvalidTask, TaskResultStatus
from aftercommit.enqueue import backend as enqueue_backend
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.errors import PayloadError, PayloadTooLarge
from aftercommit.models import Job
from tests.django import tasks
from tests.django.conftest import only_job, ours

pytestmark = pytest.mark.django_db(databases=["default", "other"])

HOUR = timedelta(hours=1)


@pytest.mark.parametrize("task", [tasks.note, tasks.anote])
def test_a_new_job_is_ready_and_has_not_been_tried(task):
    result = task.enqueue(1, two=[3, (4,)])

    assert result.status == TaskResultStatus.READY
    assert result.state == "ready"
    assert result.task == task
    assert (result.args, result.kwargs) == ([1], {"two": [3, [4]]})
    assert (result.backend, result.errors, result.worker_ids) == ("default", [], [])
    assert (result.attempts, result.is_finished) == (0, False)
    assert result.enqueued_at is not None
    assert (result.started_at, result.last_attempted_at, result.finished_at) == (None, None, None)
    with pytest.raises(ValueError, match="not finished yet"):
        _ = result.return_value


def test_the_id_is_the_text_of_the_rows_key():
    result = tasks.note.enqueue()

    assert result.id == str(only_job().id)
    assert UUID(result.id).version == 7


def test_the_row_holds_what_the_task_says():
    moment = datetime(2100, 1, 1, 12, 30, 15, 123000, tzinfo=UTC)

    tasks.with_options.using(run_after=moment).enqueue("key")

    job = only_job()
    assert job.task_path == "tests.django.tasks.with_options"
    assert (job.args, job.kwargs) == (["key"], {})
    assert (job.queue, job.priority, job.max_attempts) == ("mail", 7, 3)
    assert (job.state, job.backend, job.attempts, job.token) == ("ready", "default", 0, 0)
    assert job.run_after == moment


def test_a_job_is_due_at_once_by_the_clock_of_the_database(store):
    tasks.note.enqueue()

    job = only_job()

    assert job.run_after == job.enqueued_at
    assert store.due(limit=1) == [job.id]


def test_a_later_job_is_not_due(store):
    tasks.note.using(run_after=timezone.now() + HOUR).enqueue()

    assert store.due(limit=1) == []


def test_a_moment_of_another_time_zone_is_the_same_moment():
    zone = timezone.get_fixed_timezone(-330)
    moment = datetime(2100, 1, 1, 1, tzinfo=zone)

    tasks.note.using(run_after=moment).enqueue()

    assert only_job().run_after == moment


def test_priority_then_time_then_id_decide_the_order(store):
    past = timezone.now() - HOUR
    last = tasks.note.using(priority=-100, run_after=past).enqueue()
    third = tasks.note.enqueue()
    second = tasks.note.using(run_after=past).enqueue()
    first = tasks.note.using(priority=100).enqueue()

    due = [str(job_id) for job_id in store.due(limit=9)]

    assert due == [first.id, second.id, third.id, last.id]


def test_max_attempts_may_vary_from_call_to_call(backends):
    backends(default=ours(max_attempts=9))

    tasks.note.enqueue()
    tasks.note.using(max_attempts=1).enqueue()

    assert sorted(job.max_attempts for job in Job.objects.all()) == [1, 9]


def test_a_job_lives_where_its_backend_says():
    result = tasks.elsewhere.enqueue()

    assert result.id == str(only_job("other").id)
    assert result.backend == only_job("other").backend == "other"
    assert not Job.objects.exists()


def test_using_another_backend_moves_the_job():
    tasks.note.using(backend="other").enqueue()

    assert only_job("other").task_path == "tests.django.tasks.note"
    assert not Job.objects.exists()


class ToOther:
    """Writes our tables to the database ``other``."""

    def db_for_write(self, model, **_hints):
        return "other" if model._meta.app_label == "aftercommit" else None


def test_without_using_the_router_decides(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.ToOther"]

    result = tasks.note.enqueue()

    assert result.id == str(only_job("other").id)
    assert not Job.objects.using("default").exists()


def test_aenqueue_is_enqueue():
    result = async_to_sync(tasks.note.aenqueue)(1, two=2)

    assert result.id == str(only_job().id)
    assert (result.args, result.kwargs) == ([1], {"two": 2})


# What cannot be stored is refused before anything is written.


def test_an_argument_that_is_not_json_is_named(django_assert_num_queries):
    with (
        django_assert_num_queries(0),
        pytest.raises(
            PayloadError, match=r"tests\.django\.tasks\.note: args\[1\]\['day'\]: date is"
        ),
    ):
        tasks.note.enqueue(1, {"day": date(2026, 1, 1)})

    with pytest.raises(TypeError, match=r"kwargs\['user'\]: UUID is not JSON"):
        async_to_sync(tasks.note.aenqueue)(user=UUID(int=1))


@pytest.mark.parametrize(("argument", "stored"), [(b"text", "text"), ({1: 2}, {"1": 2})])
def test_what_json_would_change_is_accepted_unless_the_strict_rule_is_chosen(
    backends, argument, stored
):
    result = tasks.note.enqueue(argument, key=argument)
    many = tasks.note.enqueue_many([(argument,)])

    assert (result.args, result.kwargs) == ([stored], {"key": stored})
    assert tasks.note.get_result(result.id) == result or connection.vendor == "mysql"
    assert tasks.note.get_result(many[0]).args == [stored]
    backends(default=ours(strict_json=True))
    for enqueue in (tasks.note.enqueue, lambda one: tasks.note.enqueue_many([(one,)])):
        with pytest.raises(PayloadError):
            enqueue(argument)


def test_arguments_have_a_limit(backends):
    backends(default=ours(max_payload=100))
    tasks.note.enqueue("x" * 50)

    with pytest.raises(PayloadTooLarge, match="the limit is 100"):
        tasks.note.enqueue("x" * 100)

    assert Job.objects.count() == 1


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "ü😀\u2028", "'; DROP TABLE", "%s %(x)s \\"])
def test_any_text_is_stored_and_comes_back(text):
    result = tasks.note.enqueue(text, **{text: text})

    fresh = tasks.note.get_result(result.id)

    assert (fresh.args, fresh.kwargs) == ([text], {text: text})


def test_a_queue_name_may_hold_any_printable_text(store):
    tasks.note.using(queue_name="mail: großes 'Paket' 100%").enqueue()

    assert store.queues() == ["mail: großes 'Paket' 100%"]


@pytest.mark.parametrize("name", ["", "x" * 101, "a\0b", "two\nlines", "\ud800", b"mail"])
def test_a_queue_name_that_cannot_be_stored_is_refused(name):
    with pytest.raises(InvalidTask, match="queue_name must have 1 to 100 printable characters"):
        tasks.note.using(queue_name=name)


def test_an_empty_list_of_queues_allows_any():
    tasks.note.using(queue_name="whatever").enqueue()

    assert only_job().queue == "whatever"


def test_a_list_of_queues_allows_those(backends):
    backends(default=ours(queues=["default", "mail"]))

    tasks.note.using(queue_name="mail").enqueue()
    with pytest.raises(InvalidTask, match="Queue 'post' is not valid for backend"):
        tasks.note.using(queue_name="post")

    assert only_job().queue == "mail"


def test_a_task_is_checked_again_when_it_is_enqueued(backends):
    for_mail = tasks.note.using(queue_name="mail")
    backends(default=ours(queues=["default"]))

    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid"):
        for_mail.enqueue()
    with pytest.raises(InvalidTask, match="Queue 'mail' is not valid"):
        for_mail.enqueue_many([()])


def test_what_a_task_depends_on_is_checked_at_each_call(settings):
    backend = tasks.note.get_backend()
    with override_settings(USE_TZ=False):
        naive = tasks.note.using(run_after=datetime(2100, 1, 1))
        naive.enqueue()
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        naive.enqueue()

    tasks.note.enqueue()
    backend.queues.add("mail")
    try:
        with pytest.raises(InvalidTask, match="Queue 'default' is not valid"):
            tasks.note.enqueue()
    finally:
        backend.queues.clear()


def test_many_variants_of_a_task_are_not_all_remembered(monkeypatch):
    monkeypatch.setattr(enqueue_backend, "MOST_VALIDATED", 3)
    backend = tasks.note.get_backend()

    for number in range(10):
        tasks.note.using(priority=number).enqueue()

    assert len(backend._validated) <= 3


def test_a_backend_may_refuse_a_task_at_any_time(backends):
    backends(default={**ours(), "BACKEND": "tests.django.test_enqueue.Moody"})
    tasks.note.enqueue()

    Moody.mood = InvalidTask("not today")
    try:
        with pytest.raises(InvalidTask, match="not today"):
            tasks.note.enqueue()
    finally:
        Moody.mood = None


class Moody(DatabaseBackend):
    """Refuses tasks now and then."""

    mood = None

    def validate_task(self, task):
        """Refuse a task, or check it as usual."""
        super().validate_task(task)
        if self.mood:
            raise self.mood


def test_a_backend_in_transactions_takes_no_coroutines_unless_told(backends):
    backends(default=ours(atomic=True))

    tasks.note.enqueue()
    with pytest.raises(
        InvalidTask, match=r"tasks\.anote is async, and this backend runs tasks in"
    ):
        tasks.anote.enqueue()

    assert only_job().task_path == "tests.django.tasks.note"


def test_meta_data_is_kept_with_the_job(backends):
    backend = tasks.note.get_backend()

    backend.insert_job(tasks.note, backend.new_job(tasks.note, [1], {}, meta={"trace": "abc"}))

    assert (only_job().args, only_job().meta) == ([1], {"trace": "abc"})
    with pytest.raises(PayloadError, match=r"meta\['trace'\]: object is not JSON"):
        backend.new_job(tasks.note, [1], {}, meta={"trace": object()})


EARLIEST, LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)
EAST, WEST = (fixed(timedelta(hours=hours)) for hours in (14, -12))


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=EAST),
        datetime.min.replace(tzinfo=WEST),
        datetime.max.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=EAST),
        datetime.max.replace(tzinfo=WEST),
        make_aware(datetime.min, ZoneInfo("Asia/Tokyo")),
        make_aware(datetime.max, ZoneInfo("America/Los_Angeles")),
        EARLIEST - timedelta(microseconds=1),
        LATEST + timedelta(microseconds=1),
        datetime(1, 1, 2, 13, 59, 59, tzinfo=EAST),
    ],
    ids=str,
)
def test_a_moment_that_not_every_database_can_hold_is_refused(moment):
    calls = [
        lambda: tasks.note.using(run_after=moment),
        lambda: schedule("tests.app.chores.scheduled", ["x"], run_after=moment),
    ]
    for call in calls:
        with pytest.raises(InvalidTask, match="run_after must be from 0001-01-02"):
            call()
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "moment", [EARLIEST, LATEST, datetime(1, 1, 2, 14, tzinfo=EAST)], ids=str
)
def test_the_first_and_the_last_moment_are_stored_as_they_are(moment):
    (job_id,) = tasks.note.using(run_after=moment).enqueue_many([()])

    assert Job.objects.get(id=job_id).run_after == moment
    assert tasks.note.get_result(job_id).state == "ready"


@pytest.mark.parametrize("moment", [datetime.min, datetime.max])
def test_a_naive_moment_has_the_same_bounds(moment, settings):
    settings.USE_TZ = False

    with pytest.raises(InvalidTask, match="run_after must be from"):
        tasks.note.using(run_after=moment)
