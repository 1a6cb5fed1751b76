"""result.wait() and result.await_(): woken by the end, one connection for all who wait."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, connections, transaction
from django.utils import timezone

from aftercommit import jobs
from aftercommit._compat import TaskResultDoesNotExist
from aftercommit.enqueue import waits as waits_module
from aftercommit.errors import InsideTransaction, NotEndedYet
from aftercommit.models import Job
from aftercommit.store.waiting import Waiting
from aftercommit.values import Failed, Succeeded, SucceededAndGone
from tests.app import tasks
from tests.store.callers import Caller, Held
from tests.store.given import ERROR, claim_all
from tests.waiting import SOON, wait_until
from tests.worker.rig import commits

pytestmark = commits

MOMENT = timedelta(milliseconds=1)
HOUR = timedelta(hours=1)  # a wait that ends because the job has, and not by itself
WAITERS = 20


@pytest.fixture(autouse=True)
def nobody_waits_any_more(monkeypatch):
    """Wait for the end of the threads, whose connections would hold the database."""
    monkeypatch.setattr(waits_module, "LINGER", timedelta(0))
    yield
    wait_until(lambda: not threads(), why="the threads of the waits have ended")


looks: list[set[UUID]] = []


@pytest.fixture(autouse=True)
def count_looks(monkeypatch):
    """Note which jobs the database was asked about."""
    looks.clear()
    plain = Waiting.ended_among

    def counted(self, job_ids):
        answer = plain(self, job_ids)
        looks.append(set(job_ids))
        return answer

    monkeypatch.setattr(Waiting, "ended_among", counted)


def is_asked():
    """Tell whether a job was still running when the database was asked about it."""
    return bool(looks)


def threads():
    return [one for one in threading.enumerate() if one.name.startswith("aftercommit-waits")]


@pytest.fixture
def only_told(monkeypatch):
    """Let ends be noticed by notifications only, if the database has them."""
    if connection.vendor == "postgresql":
        monkeypatch.setattr(waits_module, "POLL_IF_TOLD", timedelta(hours=1))


@pytest.fixture
def worker(store):
    """Return a function that ends all jobs, as a worker does, on a connection of its own."""

    def end(outcome):
        claims = claim_all(store)
        return store.finish_many([(claim, outcome) for claim in claims])

    return end


@pytest.fixture
def other(transactional_db):
    """Return someone else."""
    watcher = connection.copy()
    caller = Caller(watcher)
    yield caller
    caller.close()
    watcher.close()


def in_thread(call, *args):
    """Begin a call in another thread; return its future."""

    def run():
        try:
            return call(*args)
        finally:
            connections.close_all()

    thread = ThreadPoolExecutor(1)
    future = thread.submit(run)
    thread.shutdown(wait=False)
    return future


def is_awaited(number=1):
    """Tell whether so many jobs are waited for, and the database was asked about them."""
    found = [one for one in waits_module._waits.values() if len(one._waiters) == number]
    return any(one._listener is not None for one in found)


@pytest.mark.parametrize(
    ("outcome", "status"), [(Succeeded("5"), "SUCCESSFUL"), (Failed(ERROR), "FAILED")], ids=str
)
def test_a_waiter_is_woken_by_the_end(outcome, status, only_told, worker):
    result = tasks.add.enqueue(2, 3)
    waiting = in_thread(result.wait, HOUR)
    wait_until(is_asked, why="somebody waits")

    worker(outcome)

    assert waiting.result(SOON.total_seconds()) is result
    assert result.status == status
    assert result.is_finished


def test_async_code_awaits_and_others_go_on_meanwhile(only_told, worker):
    result = tasks.add.enqueue(2, 3)
    seen = []

    async def wait():
        waiting = asyncio.ensure_future(result.await_(HOUR))
        while not is_awaited():
            seen.append("others go on")
            await asyncio.sleep(0.01)
        future = in_thread(wait_and_end)
        answer = await asyncio.wait_for(waiting, SOON.total_seconds())
        await asyncio.wrap_future(future)
        return answer

    def wait_and_end():
        wait_until(is_asked, why="the job is waited for")
        worker(Succeeded("5"))

    assert async_to_sync(wait)() is result
    assert result.return_value == 5
    assert seen


def test_what_has_ended_already_is_not_waited_for(worker):
    result = tasks.add.enqueue(2, 3)
    worker(Succeeded("5"))

    assert result.wait(SOON).return_value == 5

    assert result.wait(timedelta(0)) is result  # known to have ended: no look, no thread
    with transaction.atomic():
        assert result.wait(SOON) is result


def test_the_end_is_seen_however_late_it_was_asked(only_told, worker, monkeypatch):
    """A job that ends between the first look of the waiter and its request is found."""
    result = tasks.add.enqueue(2, 3)
    ask = Waiting.ask_for_end

    def end_first(self, job_ids):
        worker(Succeeded("5"))
        return ask(self, job_ids)

    monkeypatch.setattr(type(tasks.add.get_backend().store), "ask_for_end", end_first)

    waiting = in_thread(result.wait, HOUR)

    assert waiting.result(SOON.total_seconds()).return_value == 5


def test_who_waits_too_long_is_told_so():
    result = tasks.add.enqueue(2, 3)

    with pytest.raises(NotEndedYet, match=r"has not ended within 0.001 s: it is ready"):
        result.wait(MOMENT)
    with pytest.raises(TimeoutError):
        async_to_sync(result.await_)(MOMENT)

    assert all(not one._waiters for one in waits_module._waits.values())


@pytest.mark.parametrize("timeout", [5, 0.5, None, "5"], ids=repr)
def test_a_timeout_is_a_timedelta(timeout):
    result = tasks.add.enqueue(2, 3)

    with pytest.raises(TypeError, match="expected a timedelta, got"):
        result.wait(timeout)


def test_nobody_waits_for_itself():
    with transaction.atomic():
        result = tasks.add.enqueue(2, 3)
        with pytest.raises(InsideTransaction, match=r"result.wait\(\) was called inside") as told:
            result.wait(SOON)
        with pytest.raises(InsideTransaction):
            async_to_sync(result.await_)(SOON)

    assert "would wait for each other" in str(told.value)
    assert threads() == []


def test_many_who_wait_have_one_connection_together(only_told, worker, monkeypatch):
    opened = []
    store = type(tasks.add.get_backend().store)
    open_listener = store.open_listener
    monkeypatch.setattr(
        store,
        "open_listener",
        lambda self, **given: opened.append(1) or open_listener(self, **given),
    )
    results = [tasks.add.enqueue(number, 1) for number in range(WAITERS)]
    waiting = [in_thread(one.wait, HOUR) for one in results]
    wait_until(lambda: is_awaited(WAITERS), why="all wait")
    wait_until(lambda: any(len(ids) == WAITERS for ids in looks), why="all are asked for")

    assert len(threads()) == 1
    worker(Succeeded("5"))

    assert {one.result(SOON.total_seconds()).return_value for one in waiting} == {5}
    assert opened == [1]


def test_an_end_that_nobody_tells_is_found_by_looking(worker, monkeypatch):
    """As that of a job that is cancelled, or that a worker of an earlier version ends."""
    monkeypatch.setattr(waits_module, "POLL_IF_TOLD", timedelta(milliseconds=20))
    result = tasks.add.enqueue(2, 3)
    waiting = in_thread(result.wait, HOUR)
    wait_until(is_asked, why="somebody waits")

    jobs.cancel([UUID(result.id)], using="default")

    assert waiting.result(SOON.total_seconds()).state == "cancelled"


def test_a_row_that_goes_with_its_success_leaves_nothing_to_read(worker, monkeypatch):
    monkeypatch.setattr(waits_module, "POLL_IF_TOLD", timedelta(milliseconds=20))
    result = tasks.add.enqueue(2, 3)
    waiting = in_thread(result.wait, HOUR)
    wait_until(is_asked, why="somebody waits")

    worker(SucceededAndGone())

    with pytest.raises(TaskResultDoesNotExist):
        waiting.result(SOON.total_seconds())


def test_a_claim_is_not_held_up_by_who_waits(store):
    """On PostgreSQL the request writes the row: workers are told to look again."""
    if connection.vendor != "postgresql":
        pytest.skip("nothing is written elsewhere")
    result = tasks.add.enqueue(2, 3)
    presence = store.open_presence(UUID(int=7), session_locks=False)
    try:
        store.ask_for_end([UUID(result.id)])
        assert presence.wait(SOON)
    finally:
        presence.close()


def test_the_end_of_a_job_that_nobody_waits_for_tells_nobody(store, worker):
    if connection.vendor != "postgresql":
        pytest.skip("nobody is told elsewhere")
    tasks.add.enqueue(2, 3)
    awaited = tasks.add.enqueue(2, 3)
    store.ask_for_end([UUID(awaited.id)])
    listener = in_thread(heard_of, store, worker)

    assert listener.result(SOON.total_seconds()) == [UUID(awaited.id)]


def heard_of(store, worker):
    listener = store.open_listener(listens=True)
    try:
        worker(Succeeded("5"))
        return list(listener.wait(SOON)) + list(listener.wait(MOMENT))
    finally:
        store.close_listener(listener)


def test_behind_a_pooler_nobody_listens(store, worker):
    if connection.vendor != "postgresql":
        pytest.skip("nobody listens elsewhere")

    def open_listener():
        return store.open_listener(listens=False).tells

    assert in_thread(open_listener).result(SOON.total_seconds()) is False


def test_a_row_that_is_locked_holds_up_nobody_and_is_asked_for_again(store, other, only_told):
    if connection.vendor != "postgresql":
        pytest.skip("nothing is written elsewhere")
    locked, free = (UUID(tasks.add.enqueue(2, 3).id) for _job in range(2))
    held = Held(other, lambda: Job.objects.filter(id=locked).update(priority=1))

    asked = in_thread(store.ask_for_end, [locked, free])
    assert asked.result(SOON.total_seconds()) == {free}
    held.commit()

    assert store.ask_for_end([locked, free]) == {locked, free}
    assert set(Job.objects.filter(awaited=True).values_list("id", flat=True)) == {locked, free}
    assert store.ask_for_end([UUID(int=1)]) == set()


def test_who_waits_for_a_locked_row_is_told_of_its_end(other, only_told):
    if connection.vendor != "postgresql":
        pytest.skip("nothing is written elsewhere")
    result = tasks.add.enqueue(2, 3)
    end = Job.objects.filter(id=result.id).update
    held = Held(other, lambda: end(state="cancelled", finished_at=timezone.now()))
    waiting = in_thread(result.wait, HOUR)
    wait_until(is_asked, why="somebody waits")

    held.commit()

    assert waiting.result(SOON.total_seconds()).state == "cancelled"


def test_a_thread_that_fails_tells_those_who_wait_and_the_next_one_begins_anew(
    worker, monkeypatch, caplog
):
    result = tasks.add.enqueue(2, 3)

    def fail(self, job_ids):
        raise ValueError("a fault")

    with monkeypatch.context() as broken:
        broken.setattr(Waiting, "ended_among", fail)
        with pytest.raises(ValueError, match="a fault"):
            result.wait(SOON)
    assert "has failed" in caplog.text

    waiting = in_thread(result.wait, HOUR)
    wait_until(is_asked, why="somebody waits")
    worker(Succeeded("5"))

    assert waiting.result(SOON.total_seconds()).return_value == 5


def test_without_a_thread_the_caller_is_told_and_the_next_one_begins_anew(worker, monkeypatch):
    result = tasks.add.enqueue(2, 3)

    def fail(self):
        raise RuntimeError("can't start new thread")

    waits = waits_module.waits_for("default", listens=True)
    with monkeypatch.context() as broken:
        broken.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            waits.add(UUID(result.id))
    assert waits._waiters == {}

    worker(Succeeded("5"))

    waits.add(UUID(result.id)).result(SOON.total_seconds())
