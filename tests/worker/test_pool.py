"""The threads that run tasks, and the one event loop beside them."""

import asyncio
import queue
import threading
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, connections, transaction

from aftercommit.models import State
from aftercommit.values import Released, RunResult, Succeeded
from aftercommit.worker.running.connections import ThreadConnections
from aftercommit.worker.running.pool import AFTER_ERROR, Pool
from tests.waiting import wait_until
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
        run = self.hold(body, **options)
        self.pool.submit([run])
        return run

    def hold(self, body, **options):
        """Claim a new job."""
        claim = self._rig.claim(self._rig.enqueue(body, **options))
        return self._rig.hold(claim, owner=self)

    def ended(self, ends):
        """Note how some have ended."""
        for one in ends:
            self._ended.put(one)

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


# ---- when the worker's own code raises ----------------------------------------------------


class Broken:
    """Stands before an executor: raises once, before or after the body."""

    def __init__(self, executor, error, *, after_the_body):
        self._executor = executor
        self._errors = [error]
        self._after_the_body = after_the_body

    def run(self, run):
        result = self._executor.run(run) if self._after_the_body or not self._errors else None
        if self._errors:
            raise self._errors.pop()
        return result


@pytest.fixture
def threads():
    """Return a list, and a body that notes in it which thread it is in."""
    return []


def note_in(threads):
    return lambda context: threads.append(threading.get_ident())


def settle(rig, crew, *runs):
    """Let runs end in the pool, then write their ends; return the jobs."""
    ends = crew.wait(len(runs))
    assert set(ends) == set(runs)
    for run in runs:
        rig.finisher.put(run, ends[run])
    rig.finisher.write()
    return [rig.job(run.claim.job_id) for run in runs]


@pytest.mark.parametrize("error", [RuntimeError("ours"), SystemExit(1), MemoryError()], ids=repr)
def test_what_had_not_begun_is_released_whatever_was_raised(rig, crew, threads, error, caplog):
    one = crew(threads=1)
    one.executor = Broken(rig.executor, error, after_the_body=False)

    first = one.submit(note_in(threads), max_attempts=1)
    second = one.submit(note_in(threads), max_attempts=1)
    job, next_job = settle(rig, one, first, second)

    assert (job.state, job.attempts, job.error_list) == (State.READY, 0, [])
    assert job.run_after >= job.claimed_at + AFTER_ERROR  # not again and again at once
    assert next_job.state == State.SUCCEEDED
    assert threads == [one.pool._threads[0].ident]
    assert str(first.claim.job_id) in caplog.text


@pytest.mark.parametrize("error", [RuntimeError("ours"), SystemExit(1), MemoryError()], ids=repr)
@pytest.mark.parametrize(("attempts", "state"), [(1, State.FAILED), (2, State.READY)])
def test_what_had_begun_has_failed_as_by_that_error(rig, crew, threads, error, attempts, state):
    one = crew(threads=1)
    one.executor = Broken(rig.executor, error, after_the_body=True)

    retried = {"max_attempts": attempts, "retry_on": BaseException}
    first = one.submit(note_in(threads), **retried)
    second = one.submit(note_in(threads))
    job, next_job = settle(rig, one, first, second)

    assert (job.state, job.attempts) == (state, 1)
    assert job.error_list[0]["exception_class_path"] == f"builtins.{type(error).__name__}"
    assert next_job.state == State.SUCCEEDED
    assert threads == [one.pool._threads[0].ident] * 2


@pytest.mark.parametrize("after_the_body", [False, True])
def test_a_database_error_outside_the_body_costs_no_attempt(rig, crew, threads, after_the_body):
    one = crew(threads=1)
    error = OperationalError("the server does not answer")
    one.executor = Broken(rig.executor, error, after_the_body=after_the_body)

    first = one.submit(note_in(threads), max_attempts=1)
    second = one.submit(note_in(threads))
    job, next_job = settle(rig, one, first, second)

    assert (job.state, job.attempts) == (State.READY, 0)
    assert next_job.state == State.SUCCEEDED


@pytest.mark.parametrize("method", ["prepare", "tidy"])
def test_a_connection_that_cannot_be_seen_to_costs_no_thread(
    rig, crew, threads, monkeypatch, method
):
    one = crew(threads=1)
    real, errors = getattr(ThreadConnections, method), [OperationalError("gone")]

    def broken(thread_connections):
        if errors:
            raise errors.pop()
        real(thread_connections)

    monkeypatch.setattr(ThreadConnections, method, broken)
    first = one.submit(note_in(threads), max_attempts=1)
    second = one.submit(note_in(threads))
    job, next_job = settle(rig, one, first, second)

    began = method != "prepare"
    assert (job.state, job.attempts) == (State.SUCCEEDED if began else State.READY, int(began))
    assert next_job.state == State.SUCCEEDED
    assert threads == [one.pool._threads[0].ident] * (1 + began)


class BrokenGroup:
    """Raises instead of running several at once."""

    def accepts(self, run):
        return True

    def most(self, run):
        return None

    def run(self, runs, at_work):
        raise RuntimeError("ours")


def test_a_group_that_breaks_releases_all_of_its_runs(rig, crew, threads):
    one = crew(threads=1)
    busy, go_on = threading.Event(), threading.Event()

    def body(context):
        busy.set()
        go_on.wait(DEADLINE.total_seconds())

    first = one.submit(body)
    assert busy.wait(DEADLINE.total_seconds())
    group, together = BrokenGroup(), []
    for _ in "123":
        together.append(one.hold(note_in(threads), max_attempts=1))
        together[-1].facts.group = group
    one.pool.submit(together)
    last = one.submit(note_in(threads))
    go_on.set()
    _first, *jobs, last_job = settle(rig, one, first, *together, last)

    assert [(job.state, job.attempts) for job in jobs] == [(State.READY, 0)] * 3
    assert last_job.state == State.SUCCEEDED
    assert threads == [one.pool._threads[0].ident]
    assert one.pool.waiting == 0


def test_an_owner_that_raises_costs_no_thread_and_is_asked_once(rig, crew, threads, monkeypatch):
    one = crew(threads=1)
    asked = []

    def broken(ends):
        asked.extend(run for run, _result in ends)
        raise RuntimeError("ours")

    with monkeypatch.context() as patch:
        patch.setattr(one, "ended", broken)
        first = one.submit(note_in(threads))
        wait_until(lambda: asked)
    second = one.submit(note_in(threads))

    assert isinstance(one.wait(1)[second].outcome, Succeeded)
    assert asked == [first]
    assert threads == [one.pool._threads[0].ident] * 2


@pytest.mark.parametrize("error", [RuntimeError("ours"), SystemExit(1)], ids=repr)
def test_a_coroutine_whose_run_breaks_is_released(rig, crew, monkeypatch, error):
    one = crew(threads=1)

    async def broken(run):
        raise error

    async def body(context):
        return "done"

    with monkeypatch.context() as patch:
        patch.setattr(rig.executor, "arun", broken)
        first = one.submit(body, max_attempts=1)
        ends = one.wait(1)
    second = one.submit(body)

    assert isinstance(ends[first].outcome, Released)
    assert isinstance(one.wait(1)[second].outcome, Succeeded)


def test_what_a_group_has_put_back_is_done_by_those_who_are_free(rig, crew):
    """Although it was given to one of them, who takes only the first of it."""
    two = crew(threads=2)
    go_on = threading.Event()
    group = OnceTogether()
    runs = [
        two.hold(lambda context: None),
        two.hold(lambda context: go_on.wait(DEADLINE.total_seconds())),
        two.hold(lambda context: go_on.set()),
    ]
    for run in runs:
        run.facts.group = group
    two.pool._queue._threads = 1  # all of them are one thread's
    two.pool.submit(runs)

    assert set(two.wait(3)) == set(runs)


class OnceTogether:
    """Runs the first of several, once; then nothing goes together."""

    def __init__(self):
        self.open = True

    def most(self, run):
        return None

    def accepts(self, run):
        return self.open

    def run(self, runs, at_work):
        self.open = False
        return [(runs[0], RunResult(outcome=Succeeded()))]
