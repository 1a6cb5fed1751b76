"""@once: a message that is delivered twice has its effects once."""

import threading
from datetime import timedelta

import dramatiq
import pytest
from django.db import connections
from dramatiq.middleware import CurrentMessage

from aftercommit import once
from aftercommit.errors import NoMessageId
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
