"""The guard finds every way to send that the relay's page lists, unless the relay keeps it."""

import base64
import json
from contextlib import suppress
from http.client import HTTPConnection

import django
import pytest
from celery import Celery, chain, chord, group
from celery.beat import SchedulingError
from django.db import transaction

from aftercommit.errors import DispatchInTransaction
from aftercommit.guard import install, race_found, uninstall
from tests.app.tasks import add
from tests.brokers import test_celery, test_dramatiq, test_huey, test_rq, test_tasks
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.elsewhere import LIST
from tests.brokers.shop import app, at_once, note, unreachable
from tests.brokers.test_celery import running
from tests.brokers.yard import rq_queue

IMMEDIATE = (
    "django.tasks.backends.immediate.ImmediateBackend"
    if django.VERSION >= (6,)
    else "django_tasks.backends.immediate.ImmediateBackend"
)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def guard():
    """Watch, and raise."""
    yield install(mode="raise")
    uninstall()


@pytest.fixture
def found(guard):
    """Return what is found, while nothing is refused."""
    install(mode="log")
    findings = []

    def note_down(finding, **_):
        findings.append(finding)

    race_found.connect(note_down)
    yield findings
    race_found.disconnect(note_down)


def rq_way(way):
    return lambda: way(rq_queue)


WAYS = [
    *(("celery", name, way) for name, way in test_celery.WAYS.items()),
    *(("rq", name, rq_way(way)) for name, way in test_rq.WAYS.items()),
    *(("dramatiq", name, way) for name, way in test_dramatiq.WAYS.items()),
    *(("huey", name, way) for name, way in test_huey.WAYS.items()),
]
NAMES = [f"{library} {name}" for library, name, _way in WAYS]
RELAYED = {"rq": {"rq": {"url": broker_url("redis")}}}


def refused(way):
    with transaction.atomic(), pytest.raises((DispatchInTransaction, SchedulingError)) as caught:
        way()
    error = caught.value
    return (error if hasattr(error, "finding") else error.__context__).finding


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_each_way_is_found_before_anything_is_sent(library, name, way, guard, redis):
    finding = refused(way)

    assert (finding.rule, finding.adapter) == ("AC101", library)
    assert finding.place.path.endswith(f"test_{library}.py")


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_after_the_commit_each_way_is_right(library, name, way, guard, redis):
    way()
    with transaction.atomic():
        transaction.on_commit(way)


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_what_the_relay_keeps_is_right(library, name, way, guard, redis, relayed):
    relayed(library, libraries=RELAYED.get(library))
    with transaction.atomic():
        way()


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_a_callback_is_worse_than_the_relay(library, name, way, found, redis, relayed):
    relayed(library, libraries=RELAYED.get(library))
    with transaction.atomic():
        transaction.on_commit(way)

    assert {one.rule for one in found} == {"AC404"}


def sizes(redis):
    """Return how much there is in each queue of this run."""
    found = {}
    for key in redis.scan_iter(f"*{queue_name('')}*", count=1000):
        kind = redis.type(key)
        size = {b"list": redis.llen, b"zset": redis.zcard, b"hash": redis.hlen}.get(kind)
        if size is not None:
            found[key] = size(key)
    return found


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_what_is_deferred_is_sent_after_the_commit(library, name, way, guard, redis):
    install(mode="defer")
    before = sizes(redis)
    with transaction.atomic():
        assert way() is not None
        assert sizes(redis) == before
    assert sizes(redis) != before


@pytest.mark.parametrize(("library", "name", "way"), WAYS, ids=NAMES)
def test_what_is_deferred_is_gone_after_a_rollback(library, name, way, guard, redis):
    install(mode="defer")
    before = sizes(redis)
    with transaction.atomic():
        way()
        transaction.set_rollback(True)

    assert sizes(redis) == before


def test_the_id_of_a_deferred_message_is_known_and_its_arguments_are_those_of_the_call(
    guard, redis
):
    install(mode="defer")
    words = ["a"]
    with transaction.atomic():
        result = note.delay(words)
        words.append("b")
    (message,) = [json.loads(one) for one in redis.lrange(queue_name("celery"), 0, -1)]

    assert message["headers"]["id"] == result.id
    assert json.loads(base64.b64decode(message["body"]))[0] == [["a"]]


def test_a_task_that_the_relay_must_not_keep_is_found(guard, redis, relayed):
    relayed("celery")

    assert refused(at_once.delay).subject == "shop.at_once"


def test_one_message_is_one_finding(found, redis):
    with transaction.atomic():
        note.delay("a")

    assert [(one.adapter, one.subject) for one in found] == [("celery", "shop.note")]


def test_a_retry_that_raises_is_sent_at_once_on_purpose(found, redis):
    from celery.exceptions import Retry  # noqa: PLC0415

    with pytest.raises(Retry), transaction.atomic(), running(note) as task:
        task.retry(countdown=1)

    assert found == []


def test_delay_on_commit_is_right(guard, redis):
    with transaction.atomic():
        note.delay_on_commit("a")


@pytest.fixture
def eager():
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


def test_in_eager_mode_the_dispatch_is_found_and_the_body_is_on_its_own(found, eager):
    with transaction.atomic():
        note.delay("a")

    assert [one.subject for one in found] == ["shop.note"]


def test_what_the_body_of_an_eager_task_sends_is_outside_the_transaction(found):
    eager_app = Celery("eager", set_as_current=False)
    eager_app.conf.task_always_eager = True

    @eager_app.task(name="guard.outer", shared=False)
    def outer(more):
        if more:
            outer.delay(False)

    with transaction.atomic():
        outer.delay(True)

    assert [one.subject for one in found] == ["guard.outer"]


CANVASES = {
    "chain": (lambda sig: chain(sig, note.si("b")), "guard.calls"),
    "group": (lambda sig: group([sig, note.si("b")]), "guard.calls, shop.note"),
    "chord": (lambda sig: chord([sig], note.si("b")), "guard.calls"),
    "group in a chain": (
        lambda sig: chain(group(sig, note.si("b")), note.si("c")),
        "guard.calls, shop.note",
    ),
}


@pytest.fixture
def calls(eager):
    """Return a task that calls a provider, which is wrong inside a transaction."""

    @app.task(name="guard.calls", shared=False)
    def call():
        with suppress(OSError):
            HTTPConnection("127.0.0.1", 1).request("GET", "/")
        call.called = True

    call.called = False
    yield call
    app.tasks.pop("guard.calls")


@pytest.mark.parametrize("name", CANVASES)
def test_in_eager_mode_a_canvas_is_found_and_its_bodies_are_on_their_own(name, found, calls):
    canvas, subject = CANVASES[name]
    with transaction.atomic():
        canvas(calls.si()).delay()

    assert [(one.rule, one.subject) for one in found] == [("AC101", subject)]
    assert calls.called


@pytest.mark.parametrize("name", CANVASES)
def test_in_eager_mode_a_refused_canvas_does_not_run(name, guard, calls):
    canvas, subject = CANVASES[name]

    assert refused(canvas(calls.si()).delay).subject == subject
    assert not calls.called


def test_in_eager_mode_a_canvas_without_tasks_sends_nothing(guard, eager):
    with transaction.atomic():
        group([], app=app).apply_async()


def test_in_eager_mode_the_relay_would_keep_a_canvas_unless_one_task_says_never(
    guard, calls, relayed, redis
):
    relayed("celery")
    with transaction.atomic():
        group(calls.si(), note.si("a")).delay()

    assert refused(group(calls.si(), at_once.si("a")).delay).rule == "AC101"


def test_in_eager_mode_nothing_is_found_if_the_settings_say_so(guard, eager):
    install(mode="raise", eager=False)
    with transaction.atomic():
        note.delay("a")


def test_in_eager_mode_the_relay_would_keep_it(guard, eager, relayed, redis):
    relayed("celery")
    with transaction.atomic():
        note.delay("a")


def test_an_app_that_was_made_before_and_one_that_was_made_after(guard):
    later = Celery("later", broker="redis://127.0.0.1:1/0", set_as_current=False)
    for one in (unreachable, later):
        assert refused(lambda one=one: one.send_task("guard.somewhere")).subject == (
            "guard.somewhere"
        )


# Other backends of django.tasks.


@pytest.fixture
def mail(settings, redis):
    """Return a task of another library's backend."""
    settings.TASKS = {
        **settings.TASKS,
        "mail": {"BACKEND": "tests.brokers.elsewhere.RedisBackend"},
        "other mail": {"BACKEND": "tests.brokers.elsewhere.RedisBackend"},
        "now": {"BACKEND": IMMEDIATE},
    }
    from tests.brokers.elsewhere_tasks import note as task  # noqa: PLC0415 - its alias is there

    yield task
    redis.delete(LIST)


@pytest.mark.parametrize("way", test_tasks.WAYS)
def test_each_way_to_enqueue_with_another_backend_is_found(way, guard, mail):
    finding = refused(lambda: test_tasks.WAYS[way](mail))

    assert (finding.rule, finding.adapter) == ("AC101", "tasks")
    assert finding.subject == "tests.brokers.elsewhere_tasks.note"


@pytest.mark.parametrize("way", test_tasks.WAYS)
def test_what_the_relay_keeps_of_another_backend_is_right(way, guard, mail, relayed):
    relayed(libraries={"tasks": {"backends": ["mail"]}})
    with transaction.atomic():
        test_tasks.WAYS[way](mail)


def test_a_backend_that_the_relay_does_not_wrap_is_found(guard, mail, relayed):
    relayed(libraries={"tasks": {"backends": ["mail"]}})

    assert refused(lambda: mail.using(backend="other mail").enqueue()).adapter == "tasks"


def test_our_own_jobs_are_right_on_the_database_of_the_transaction(guard):
    with transaction.atomic():
        add.enqueue(1, 2)


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_our_own_jobs_are_wrong_in_a_transaction_on_another_database(guard):
    with transaction.atomic("other"), pytest.raises(DispatchInTransaction) as caught:
        add.enqueue(1, 2)

    assert caught.value.finding.rule == "AC405"


def test_a_backend_that_runs_at_once_is_found_and_the_body_is_on_its_own(found, mail):
    with transaction.atomic():
        mail.using(backend="now").enqueue("a")

    assert [one.adapter for one in found] == ["tasks"]
