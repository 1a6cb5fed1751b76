"""@once: a message that is delivered twice has its effects once."""

import threading
from datetime import timedelta

import dramatiq
import pytest
from django.db import connection, connections
from django.utils import timezone
from dramatiq.middleware import CurrentMessage

from aftercommit import once
from aftercommit.errors import ConfigurationError, NoMessageId
from aftercommit.models import Received
from aftercommit.store import store_for
from tests.brokers.shop import note_once
from tests.worker.rig import commits, effects, leave

pytestmark = commits
SECONDS = 20


@once(key=lambda message_id, **_: message_id)
def consume(message_id, *, fails=False):
    """Leave one effect."""
    leave("effect")
    if fails:
        raise ZeroDivisionError
    return "done"


def test_a_copy_does_nothing():
    assert [consume("m1"), consume("m1"), consume("m2")] == ["done", None, "done"]
    assert effects("effect") == 2


def test_one_that_has_failed_runs_again():
    with pytest.raises(ZeroDivisionError):
        consume("m1", fails=True)
    assert effects("effect") == 0
    assert consume("m1") == "done"
    assert effects("effect") == 1


def test_two_consumers_of_one_message_do_not_know_each_other():
    @once(key=str)
    def another(message_id):
        leave("effect")

    consume("m1")
    another("m1")

    assert effects("effect") == 2


def test_a_copy_waits_for_the_run_that_is_not_over():
    """Which of them comes first does not matter; that both come at once does."""
    begun, go_on, ends = threading.Event(), threading.Event(), []

    @once(key=str)
    def slow(message_id):
        leave("effect")
        begun.set()
        go_on.wait(SECONDS)

    def call():
        try:
            slow("m1")
        except Exception as error:
            ends.append(error)
        finally:
            connections.close_all()

    first, second = threading.Thread(target=call), threading.Thread(target=call)
    first.start()
    assert begun.wait(SECONDS)
    second.start()
    go_on.set()
    first.join(SECONDS)
    second.join(SECONDS)

    assert (effects("effect"), ends) == (1, [])


@pytest.mark.parametrize("message_id", ["", "x" * 256, None])
def test_without_an_id_nothing_is_done(message_id):
    with pytest.raises(NoMessageId, match="consume"):
        consume(message_id)
    assert effects("effect") == 0


def test_celery_tells_the_id_of_its_message():
    with pytest.raises(NoMessageId):
        note_once("effect")
    for task_id in ("t1", "t1", "t2"):
        note_once.apply(["effect"], task_id=task_id).get()

    assert effects("effect") == 2


def test_dramatiq_tells_the_id_of_its_message():
    @once
    def body():
        leave("effect")

    middleware = CurrentMessage()
    message = dramatiq.Message("q", "a", (), {}, {})
    for _copy in "12":
        middleware.before_process_message(None, message)
        body()
        middleware.after_process_message(None, message)

    assert effects("effect") == 1


def test_old_ones_are_forgotten_in_batches():
    for number in range(3):
        consume(f"m{number}")
    store = store_for("default")

    assert store.prune_received(older_than=timedelta(hours=1)) == 0
    assert store.prune_received(older_than=timedelta(seconds=-1), limit=2) == 2
    assert Received.objects.count() == 1


ALIKE = [
    ("order-A1", "order-a1"),
    ("café", "cafe"),
    ("cafe\u0301", "café"),
    ("x", "x "),
    ("x", " x"),
    ("😀", "😁"),
    ("😀", "é"),
    ("ß", "ss"),
    ("İ", "i"),
    ("\u0661", "1"),
    ("a\u200b", "a"),
    ("\u0430", "a"),
]


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=ascii)
def test_ids_that_only_look_alike_are_different(one, other):
    assert [consume(each) for each in (one, other, one, other)] == ["done", "done", None, None]
    assert effects("effect") == 2


@pytest.mark.parametrize(("one", "other"), ALIKE, ids=ascii)
def test_consumers_whose_names_only_look_alike_are_different(one, other):
    named = [once(key=str, name=name)(lambda _id: leave("effect")) for name in (one, other)]

    for consumer in (*named, *named):
        consumer("m1")

    assert effects("effect") == 2


def consumer_made_for(_shop, **options):
    @once(key=str, **options)
    def made(_message_id):
        leave("effect")

    return made


def test_consumers_of_one_factory_need_names():
    consumer_made_for("first")
    with pytest.raises(ConfigurationError, match=r"made is the path of another.*\n.*\n.*name="):
        consumer_made_for("second")

    for name in ("first", "second", "first"):
        consumer_made_for(name, name=name)("m1")
    assert effects("effect") == 2


def test_methods_of_several_objects_need_names():
    class Shop:
        def consume(self, _message_id):
            leave("effect")

    once(key=lambda *_: "m1")(Shop().consume)
    with pytest.raises(ConfigurationError, match=r"Shop\.consume is the path of another"):
        once(key=lambda *_: "m1")(Shop().consume)
    once(Shop().consume)  # by the ids of a library's messages, which belong to one consumer


def test_a_module_that_is_loaded_again_has_the_consumers_of_before():
    source = "from aftercommit import once\n@once(key=str)\ndef consume(_id): return 'done'"
    loaded = [{"__name__": "shop.orders"} for _time in "12"]
    for one in loaded:
        exec(compile(source, "orders.py", "exec"), one)  # noqa: S102

    assert [one["consume"]("m1") for one in loaded] == ["done", None]


@pytest.mark.parametrize("name", ["", "x" * 256, 7])
def test_a_name_that_cannot_be_stored_is_refused(name):
    with pytest.raises(ConfigurationError, match="1 to 255 characters"):
        once(key=str, name=name)(leave)


def test_a_key_that_is_no_text_is_refused():
    with pytest.raises(NoMessageId, match="consume"):
        consume(7)


@pytest.fixture
def far_from_utc():
    """Let the session have a time zone of its own."""
    mysql = connection.vendor == "mysql"  # Django sets it on PostgreSQL; SQLite has none
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '-05:00'" if mysql else "SELECT 1")
    yield
    connection.close()


def test_messages_are_kept_for_as_long_as_is_said_in_any_time_zone(far_from_utc):
    consume("m1")
    # As version 0.1 does: by the default of the column.
    Received.objects.create(message_id="m2", consumer="another")
    store = store_for("default")

    found = Received.objects.values_list("received_at", flat=True)
    assert all(abs(one - timezone.now()) < timedelta(minutes=10) for one in found)
    assert store.prune_received(older_than=timedelta(hours=4)) == 0
    assert consume("m1") is None
