"""Real workers while operators pause and resume."""

from signal import SIGTERM

import pytest

from aftercommit.models import State
from aftercommit.store import store_for
from aftercommit.values import QUEUE
from tests.app.chores import plain
from tests.app.models import Effect
from tests.waiting import wait_until

MAIL = plain.using(queue_name="mail")


def done():
    """Return which jobs have run."""
    return {effect.key for effect in Effect.objects.all()}


@pytest.fixture
def store():
    """Return the store, on which a test pauses in one database only."""
    return store_for("default")


def test_a_pause_leaves_running_jobs_alone_and_a_worker_that_comes_later_knows(rig, store):
    worker = rig.worker()
    rig.enqueue(MAIL, "running", gate="go")
    rig.wait_note("begin", key="running")
    store.pause(QUEUE, "mail", by="ann", why="")

    def follows():
        rig.enqueue(plain, "beside")  # it reads of pauses when there is something to claim
        return "the queue 'mail' is paused" in worker.output

    wait_until(follows)
    waits = rig.enqueue(MAIL, "waits")
    rig.open_gate("go")
    wait_until(lambda: "running" in done())
    store.resume(QUEUE, "mail")
    wait_until(lambda: "waits" in done())

    store.pause(QUEUE, "mail", by="ann", why="")
    wait_until(lambda: follows() and worker.output.count("'mail' is paused") > 1)
    left = rig.enqueue(MAIL, "left")
    worker.signal(SIGTERM)
    assert worker.wait() == 0
    drain = rig.worker("--drain")
    assert drain.wait() == 0
    assert "1 due job was left in database 'default': the queue 'mail' is paused" in drain.output
    assert [rig.job(one).state for one in (waits, left)] == [State.SUCCEEDED, State.READY]
