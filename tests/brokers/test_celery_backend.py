"""The same tasks in a worker of Celery: by settings alone, by the same rules."""

import gc
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import celery
import pytest
from celery import signals
from celery.contrib.testing.worker import start_worker
from celery.exceptions import SoftTimeLimitExceeded
from django.db import connections, transaction

import aftercommit
from aftercommit._compat import BaseTask, InvalidTask, task_backends
from aftercommit.errors import ConfigurationError, PayloadError
from aftercommit.options.worker import WorkerConfig
from aftercommit.relay.celery.consumer import RUN
from aftercommit.worker.quota import RunQuota
from aftercommit.worker.worker import Worker
from tests.app.models import Effect
from tests.brokers.addresses import queue_name
from tests.brokers.conftest import kept, run_relay
from tests.brokers.shop import app
from tests.django.conftest import FIELDS
from tests.process.conftest import rig  # noqa: F401 - a fixture
from tests.waiting import wait_until

LONG = timedelta(seconds=90)
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "other"]),
    pytest.mark.filterwarnings("ignore:Call to deprecated setex"),  # by Celery's backend
    # Its worker leaves connections to Redis to be collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture
def move(settings, redis, relayed):
    """Return a function that says by settings where the tasks run; they run in Celery now."""
    relayed("celery")

    def to(backend, **options):
        tasks = deepcopy(settings.TASKS)
        tasks["far"] = {"BACKEND": backend, "QUEUES": [], "OPTIONS": options}
        settings.TASKS = tasks

    to("aftercommit.CeleryBackend", app="tests.brokers.shop.app")
    return to


@pytest.fixture
def tasks(move):
    """Return the module of the tasks."""
    from tests.brokers import movable  # noqa: PLC0415 - its alias is there now

    return movable


@pytest.fixture
def consumer(tasks):
    """Let a worker of Celery run in a thread; nothing of it is left to other tests."""
    signals.setup_logging.connect(_leave_the_log_alone)
    before = celery.current_app._get_current_object()
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=30):
        yield
    before.set_current()
    before.set_default()
    signals.setup_logging.disconnect(_leave_the_log_alone)
    connections.close_all()
    gc.collect()  # Celery's clients of Redis, while their warnings are ignored


def _leave_the_log_alone(**_):
    """Be connected: then Celery sets nothing up."""


def runs(tasks, key):
    return int(tasks.counter.get(queue_name(f"runs_{key}")) or 0)


def outcome(result):
    """Return the state and what Celery knows of it, when it has ended."""
    found = app.AsyncResult(result.id)
    wait_until(found.ready, deadline=LONG, why="Celery has run it")
    return found.state, found.result


def test_it_is_sent_with_the_commit_and_run_by_celery(tasks, consumer):
    with transaction.atomic():
        result = tasks.effect.enqueue("a")
    assert [one.meta["message_id"] for one in kept()] == [result.id]
    assert [one.meta["name"] for one in kept()] == [tasks.effect.module_path]
    run_relay()

    assert outcome(result) == ("SUCCESS", "a")
    assert Effect.objects.get().key == "a"


def test_after_a_rollback_it_never_existed(tasks):
    with transaction.atomic():
        tasks.effect.enqueue("a")
        transaction.set_rollback(True)
    run_relay()

    assert kept() == []
    with app.connection_for_read() as connection:
        assert connection.default_channel.client.llen(queue_name("celery")) == 0


def test_the_same_task_runs_here_when_the_settings_say_so(tasks, move):
    move("aftercommit.DatabaseBackend")
    with transaction.atomic():
        result = tasks.effect.enqueue("a")
    work()

    assert task_backends["far"].get_result(result.id).return_value == "a"
    assert Effect.objects.get().key == "a"


def work():
    config = WorkerConfig(drain=True)
    assert Worker(config, quota=RunQuota(None)).run() == 0


def test_both_may_be_used_for_one_task(tasks, consumer):
    with transaction.atomic():
        far = tasks.effect.enqueue("far")
        here = tasks.effect.using(backend="default").enqueue("here")
    work()
    run_relay()

    assert outcome(far) == ("SUCCESS", "far")
    assert task_backends["default"].get_result(here.id).return_value == "here"
    assert set(Effect.objects.values_list("key", flat=True)) == {"far", "here"}


def test_a_run_that_fails_takes_its_effects_back_and_is_tried_again(tasks, consumer):
    result = tasks.fails_twice.enqueue("a")

    assert outcome(result) == ("SUCCESS", "a")
    assert runs(tasks, "a") == 3
    assert Effect.objects.count() == 1


@pytest.mark.parametrize(
    ("error", "number", "state"),
    [("value", 2, "FAILURE"), ("discard", 1, "FAILURE")],
)
def test_it_ends_as_failed_when_no_attempt_is_left_or_wanted(
    tasks, consumer, error, number, state
):
    result = tasks.fails.enqueue("a", error)

    assert outcome(result)[0] == state
    assert runs(tasks, "a") == number


def test_a_task_that_cancels_itself_is_not_tried_again(tasks, consumer):
    result = tasks.fails.enqueue("a", "cancel")
    assert outcome(tasks.effect.enqueue("b")) == ("SUCCESS", "b")  # one worker, so after it

    assert runs(tasks, "a") == 1
    assert app.AsyncResult(result.id).state == "PENDING"  # as Celery shows what it ignores


def test_the_soft_time_limit_is_our_timeout(tasks, consumer):
    with transaction.atomic():
        result = tasks.takes_too_long.enqueue("a")
    (message,) = kept()
    headers = message.kwargs["content"]["publishes"][0]["headers"]
    assert headers["timelimit"] == [None, 300]
    run_relay()

    assert outcome(result)[0] == "FAILURE"
    assert runs(tasks, "a") == 2  # only a timeout is retried


def test_a_worker_with_processes_ends_what_takes_too_long(tasks, rig):  # noqa: F811
    backend = {
        "BACKEND": "aftercommit.CeleryBackend",
        "QUEUES": [],
        "OPTIONS": {"app": "tests.brokers.shop.app", "task_modules": ["tests.brokers.movable"]},
    }
    rig.settings_module(f"TASKS['far'] = {backend}")
    result = tasks.never_ends.enqueue("a")
    worker = ("-m", "celery", "-A", "tests.brokers.consumer:app", "worker", "-P", "prefork")
    rig.run(*worker, "-c", "1", "-l", "warning")

    state, error = outcome(result)
    assert (state, type(error)) == ("FAILURE", SoftTimeLimitExceeded)
    assert runs(tasks, "a") == 2


@pytest.mark.parametrize("when", ["tomorrow", timedelta(days=1)])
def test_a_moment_that_is_none_is_refused_at_the_call(tasks, when):
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.effect.using(run_after=when)


def test_a_snooze_costs_no_attempt(tasks, consumer):
    result = tasks.snoozes.enqueue("a")

    assert outcome(result)[0] == "SUCCESS"
    assert runs(tasks, "a") == 4


def test_a_task_may_commit_by_hand_and_knows_its_attempt(tasks, consumer):
    result = tasks.by_hand.enqueue("a")

    assert outcome(result) == ("SUCCESS", result.id)
    assert Effect.objects.get().key == "a 2"


@pytest.mark.parametrize("name", ["fails_twice", "by_hand"])
def test_a_copy_of_a_message_has_its_effects_once(tasks, consumer, name):
    task = getattr(tasks, name)
    result = task.enqueue("a")
    assert outcome(result)[0] == "SUCCESS"
    app.AsyncResult(result.id).forget()  # so that what is found below is of the copy
    copy = app.send_task(RUN, [task.module_path, ["a"], {}, "far", [3, 1, 0]], task_id=result.id)

    assert outcome(copy) == ("SUCCESS", None)
    assert Effect.objects.count() == 1


def test_an_async_task_runs_too(tasks, consumer):
    assert outcome(tasks.asynchronous.enqueue("a")) == ("SUCCESS", "a")


def test_a_task_that_the_worker_does_not_know_fails_with_a_reason(tasks, consumer):
    sent = app.send_task(RUN, ["os.system", ["true"], {}, "far", [1, 0, 0]])

    state, error = outcome(sent)
    assert (state, type(error)) == ("FAILURE", ConfigurationError)
    assert "os.system is not known to this Celery worker" in str(error)


def test_queue_moment_and_priority_are_those_of_the_call(tasks):
    later = datetime(2100, 1, 1, tzinfo=UTC)
    with transaction.atomic():
        tasks.effect.using(queue_name="slow", run_after=later, priority=100).enqueue("a")
        tasks.effect.enqueue("b")
    first, second = (one.kwargs["content"]["publishes"][0] for one in kept())

    assert first["routing_key"] == "slow"
    assert first["headers"]["eta"].startswith("2100-01-01T00:00:00")
    assert (first["priority"], second["priority"]) == (0, 0)  # 0 comes first on Redis
    assert second["routing_key"] == queue_name("celery")


def test_what_is_not_json_is_refused_at_the_call(tasks):
    with pytest.raises(PayloadError):
        tasks.effect.enqueue(object())


def test_a_task_of_another_class_is_sent(tasks):
    with transaction.atomic():
        result = BaseTask(**{**FIELDS, "backend": "far"}, func=tasks.count).enqueue("one")

    assert [one.meta["message_id"] for one in kept()] == [result.id]
    assert [one.meta["name"] for one in kept()] == ["tests.brokers.movable.count"]


def test_what_is_no_task_is_refused(tasks):
    fields = {"takes_context": False, "priority": 0, "run_after": None, "queue_name": "default"}
    with pytest.raises(InvalidTask, match=r"Expected a task of django\.tasks"):
        task_backends["far"].validate_task(SimpleNamespace(func=tasks.count, **fields))


def test_an_option_that_does_not_exist_is_refused(move):
    move("aftercommit.CeleryBackend", max_attemps=3)

    with pytest.raises(ConfigurationError, match="Did you mean 'max_attempts'"):
        task_backends["far"]


def test_settings_that_were_written_for_0_1_0_still_work(move):
    move("aftercommit.celery_backend.CeleryBackend", app="tests.brokers.shop.app")

    assert type(task_backends["far"]) is aftercommit.CeleryBackend


NOT_KEPT = [
    {"unique": "until_finished"},
    {"unique": "until_started", "debounce": timedelta(seconds=1)},
    {"limit": 1, "limit_by": ("key",)},
    {"limit": 1, "ordered": True},
    {"rate": "60/m"},
    {"fair_by": ("key",)},
]


@pytest.mark.parametrize("options", NOT_KEPT, ids="_".join)
def test_what_celery_would_not_keep_is_refused_at_the_declaration(tasks, options):
    named = ", ".join(name for name in options if name != "limit_by")
    said = f"count has {named}, and backend 'far' sends to Celery"
    with pytest.raises(InvalidTask, match=f"{said}, .* Use a DatabaseBackend"):
        aftercommit.task(backend="far", **options)(tasks.count)

    unkept = aftercommit.task(backend="default", **options)(tasks.count)
    with pytest.raises(InvalidTask, match=said):
        unkept.using(backend="far")


def test_a_unique_key_of_a_call_is_refused(tasks):
    with pytest.raises(InvalidTask, match="effect has unique_key, and backend 'far'"):
        tasks.effect.using(unique_key="a")


def test_tags_and_keep_result_are_ignored(tasks):
    with transaction.atomic():
        tasks.effect.using(tags=["eu"]).enqueue("a")
        aftercommit.task(backend="far", keep_result=None)(tasks.count).enqueue("b")

    assert len(kept()) == 2
