"""The threads that run tasks, and the one event loop beside them."""

import asyncio
import queue
import threading
from datetime import timedelta

import pytest
from django.db import connection, connections, transaction

from aftercommit.values import Succeeded
from aftercommit.worker.running.pool import Pool
from tests.worker.rig import commits, leave, sql

pytestmark = commits

DEADLINE = timedelta(seconds=20)


class Crew:
    """A pool, and what has ended in it: it owns the runs."""

    def __init__(self, rig, threads):
        self._rig = rig
        self.executor = rig.executor
        self._ended = queue.SimpleQueue()
        self.pool = Pool(threads)
        self.pool.start()

    def submit(self, body, **options):
        """Claim a new job and give it to the pool."""
        claim = self._rig.claim(self._rig.enqueue(body, **options))
        run = self._rig.hold(claim, owner=self)
        self.pool.submit([run])
        return run

    def ended(self, run, result):
        """Note how one has ended."""
        self._ended.put((run, result))

    def wait(self, number):
        """Wait until so many have ended; return how, by their runs."""
        ends = [self._ended.get(timeout=DEADLINE.total_seconds()) for _number in range(number)]
        return dict(ends)


@pytest.fixture
def crew(rig):
    """Return a function that starts a pool; it has ended when the test does."""
    crews = []

    def start(threads):
        crews.append(Crew(rig, threads))
        return crews[-1]

    yield start
    for one in crews:
        one.pool.stop(DEADLINE)


def test_so_many_tasks_run_at_once(crew):
    """Each waits for all others, so none could end if they took turns."""
    three = crew(threads=3)
    together = threading.Barrier(3)

    runs = [three.submit(lambda context: together.wait(DEADLINE.total_seconds())) for _ in "123"]
    ends = three.wait(3)

    assert all(isinstance(ends[run].outcome, Succeeded) for run in runs)


def test_each_thread_has_a_connection_of_its_own(crew):
    two = crew(threads=2)
    seen = []
    together = threading.Barrier(2)

    def body(context):
        sql("SELECT 1")
        seen.append((threading.get_ident(), id(connection.connection)))
        together.wait(DEADLINE.total_seconds())

    for _ in "12":
        two.submit(body)
    two.wait(2)

    assert len(set(seen)) == len({thread for thread, _raw in seen}) == 2


def test_tasks_begin_in_the_order_in_which_they_were_given(crew):
    one = crew(threads=1)
    order = []

    for number in range(5):
        one.submit(lambda context, number=number: order.append(number))
    one.wait(5)

    assert order == [0, 1, 2, 3, 4]


def test_what_has_not_begun_can_be_taken_back(crew):
    one = crew(threads=1)
    begun, go_on = threading.Event(), threading.Event()

    def body(context):
        begun.set()
        go_on.wait(DEADLINE.total_seconds())

    first, *others = [one.submit(body) for _ in "123"]
    assert begun.wait(DEADLINE.total_seconds())
    taken = one.pool.unstarted()
    go_on.set()

    assert taken == others
    assert list(one.wait(1)) == [first]


def test_a_thread_survives_whatever_its_tasks_do(crew):
    one = crew(threads=1)

    def leave_a_mess(context):
        transaction.atomic().__enter__()
        leave("mess")
        connection.connection.close()

    def exit_the_thread(context):
        raise SystemExit

    one.submit(leave_a_mess, max_attempts=1)
    one.submit(exit_the_thread, max_attempts=1)
    good = one.submit(lambda context: leave("good"), atomic=True)
    ends = one.wait(3)

    assert isinstance(ends[good].outcome, Succeeded)


def test_at_rest_a_thread_keeps_no_connection_that_conn_max_age_forbids(crew):
    one = crew(threads=1)
    seen = []

    def body(context):
        sql("SELECT 1")
        seen.append(connections["default"])

    one.submit(body)
    one.wait(1)
    one.submit(lambda context: seen.append(connections["default"].connection))
    one.wait(1)

    assert connections["default"].settings_dict["CONN_MAX_AGE"] == 0
    assert seen[1] is None


def test_coroutines_run_beside_the_threads_and_share_a_loop(crew):
    one = crew(threads=2)
    loops = []
    busy, go_on = threading.Event(), threading.Event()

    def occupy_the_thread(context):
        busy.set()
        go_on.wait(DEADLINE.total_seconds())

    async def body(context):
        loops.append(asyncio.get_running_loop())

    blocked = one.submit(occupy_the_thread)
    assert busy.wait(DEADLINE.total_seconds())
    coroutines = [one.submit(body) for _ in "123"]
    ends = one.wait(3)
    go_on.set()

    assert set(ends) == set(coroutines)
    assert len(set(map(id, loops))) == 1
    assert list(one.wait(1)) == [blocked]


def test_coroutines_and_threads_together_are_no_more_than_the_threads(crew):
    two = crew(threads=2)
    at_once, most = [], []

    def note():
        at_once.append(1)
        most.append(len(at_once))

    async def body(context):
        note()
        await asyncio.sleep(0)
        at_once.pop()

    def function(context):
        note()
        at_once.pop()

    runs = [two.submit(one) for one in [body, function] * 10]

    assert len(two.wait(len(runs))) == len(runs)
    assert max(most) <= 2


def test_what_waits_too_long_for_a_thread_is_taken_back_in_whole(crew):
    one = crew(threads=1)
    busy, go_on = threading.Event(), threading.Event()

    def body(context):
        busy.set()
        go_on.wait(DEADLINE.total_seconds())

    first, *others = [one.submit(body) for _ in "123"]
    assert busy.wait(DEADLINE.total_seconds())

    assert one.pool.unstarted(held_for=timedelta(hours=1)) == []
    others[0].held_since -= 3600
    taken = one.pool.unstarted(held_for=timedelta(hours=1))
    go_on.set()

    assert taken == others
    assert list(one.wait(1)) == [first]
    assert one.pool.waiting == 0
