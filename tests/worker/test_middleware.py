"""Middleware around a run: what it sees, where it stands, and what its exceptions do."""

import asyncio
import threading
from contextvars import ContextVar
from datetime import timedelta

import pytest
from asgiref.sync import markcoroutinefunction
from django.db import connection, transaction
from django.utils.decorators import async_only_middleware, sync_and_async_middleware

from aftercommit import Cancel, Discard, Retry, Secret, Snooze, task
from aftercommit.errors import ClaimLost, MiddlewareError, TimedOut
from aftercommit.models import State
from aftercommit.options.conf import BackendOptions
from aftercommit.worker.facts import facts_for
from tests.app.models import Effect
from tests.worker import secret_tasks
from tests.worker.rig import Rig, commits, effects, leave

pytestmark = commits

SOON = timedelta(minutes=5)
VARIABLE = ContextVar("VARIABLE", default="unset")
KINDS = {"plain": {}, "atomic": {"atomic": True}}


@pytest.fixture
def with_middleware(transactional_db):
    """Return a function: a rig whose backend has this middleware."""
    made = []

    def make(*factories, **options):
        rig = Rig(options=BackendOptions(middleware=factories, **options))
        made.append(rig)
        return rig

    yield make
    for rig in made:
        rig.close()


@pytest.fixture
def configure(settings):
    """Return a function that gives the only backend options."""

    def configure(**options):
        before = settings.TASKS["default"]
        settings.TASKS = {"default": {**before, "OPTIONS": {**before["OPTIONS"], **options}}}

    return configure


@pytest.fixture(params=KINDS)
def kind(request):
    """Return the options of a task."""
    return KINDS[request.param]


def noting(log, name="only"):
    """Return a factory whose middleware notes what it sees."""

    def factory(get_result):
        def middleware(run):
            log.append((f"{name} before", run.outcome))
            try:
                value = get_result(run)
            except BaseException as error:
                log.append((f"{name} {type(error).__name__}", run.outcome))
                raise
            log.append((f"{name} {value!r}", run.outcome))
            return value

        return middleware

    return factory


def calling(before=lambda run: None, after=lambda run: None):
    """Return a factory whose middleware calls functions before and after the run."""

    def factory(get_result):
        def middleware(run):
            before(run)
            try:
                return get_result(run)
            finally:
                after(run)

        return middleware

    return factory


def raising(error):
    """Return a function that raises it."""

    def function(*_):
        raise error

    return function


# What it sees.


def test_the_first_middleware_is_the_outermost(with_middleware, kind):
    log = []
    rig = with_middleware(noting(log, "first"), noting(log, "second"))

    job = rig.run(lambda _context: 42, **kind)

    assert (job.state, job.return_value) == (State.SUCCEEDED, 42)
    assert log == [
        ("first before", None),
        ("second before", None),
        ("second 42", "succeeded"),
        ("first 42", "succeeded"),
    ]


def test_a_factory_is_called_once_for_a_task():
    made = []

    def factory(get_result):
        made.append(get_result)
        return get_result

    facts_for(atomic_one, BackendOptions(middleware=[factory]))

    assert len(made) == 1


def test_the_run_tells_what_is_run(with_middleware):
    seen = []
    rig = with_middleware(calling(before=seen.append))

    job = rig.run(lambda _context: None, priority=7, max_attempts=3)

    (run,) = seen
    assert (run.job_id, run.attempt, run.max_attempts) == (str(job.id), 1, 3)
    assert (run.queue, run.backend, run.using, run.priority) == ("rig", "default", "default", 7)
    assert (run.name, run.task.module_path) == (job.task_path, job.task_path)
    assert (run.args, run.kwargs, run.headers) == (tuple(job.args), {}, {})
    assert run.enqueued_at == job.enqueued_at
    assert timedelta(0) <= run.wait < SOON
    assert run.runs == (run,)


def test_its_text_tells_no_arguments(with_middleware):
    seen = []
    rig = with_middleware(calling(before=lambda run: seen.append(repr(run))))

    job = rig.run(lambda _context: None)

    assert job.args[0] not in seen[0]


def test_a_later_attempt_says_so(with_middleware):
    seen = []
    rig = with_middleware(calling(after=lambda run: seen.append((run.attempt, run.outcome))))
    job = rig.run(raising(ValueError()), max_attempts=2)

    rig.run_again(job.id)

    assert seen == [(1, "retry"), (2, "failed")]


@pytest.mark.parametrize(
    ("error", "outcome", "state"),
    [
        (ValueError(), "retry", State.READY),
        (Retry(), "retry", State.READY),
        (Snooze(SOON), "released", State.READY),
        (Cancel(), "cancelled", State.CANCELLED),
        (Discard(), "discarded", State.FAILED),
        (SystemExit(), "failed", State.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_the_task_raises_passes_through(with_middleware, kind, error, outcome, state):
    log = []
    rig = with_middleware(noting(log))

    job = rig.run(raising(error), **kind)

    assert job.state == state
    assert log == [("only before", None), (f"only {type(error).__name__}", outcome)]
    assert job.attempts == (outcome != "released")


def test_it_sees_why_a_commit_failed(with_middleware):
    log = []
    rig = with_middleware(noting(log))

    def body(_context):
        transaction.set_rollback(True)

    assert rig.run(body, atomic=True).state == State.READY
    assert log[1:] == [("only RolledBack", "retry")]


def test_it_sees_a_result_that_cannot_be_stored(with_middleware):
    log = []
    rig = with_middleware(noting(log))

    assert rig.run(lambda _context: object()).state == State.FAILED
    assert log[1:] == [("only PayloadError", "failed")]


def test_it_stands_outside_the_transaction(with_middleware):
    seen = []

    def look(run):
        seen.append((connection.in_atomic_block, run.is_recorded))

    rig = with_middleware(calling(before=look, after=look))

    rig.run(lambda _context: seen.append(connection.in_atomic_block), atomic=True)

    assert seen == [(False, False), True, (False, True)]


def test_atomic_tasks_with_middleware_share_no_transaction(with_middleware, configure):
    configure(middleware=[noting([])])
    rig = with_middleware()
    job_id = rig.enqueue_task(atomic_one)
    rig._tasks.clear()

    facts = rig.facts_of(rig.claim(job_id))

    assert facts.policy.atomic
    assert facts.group is None


def test_it_shares_the_context_of_the_run_and_no_other(with_middleware):
    seen = []
    rig = with_middleware(
        calling(
            before=lambda run: (seen.append(VARIABLE.get()), VARIABLE.set(run.job_id)),
            after=lambda run: seen.append(VARIABLE.get()),
        )
    )

    def body(_context):
        seen.append(VARIABLE.get())
        VARIABLE.set("of the body")

    jobs = [rig.run(body) for _number in "12"]

    assert seen == [
        *("unset", str(jobs[0].id), "of the body"),
        *("unset", str(jobs[1].id), "of the body"),
    ]


# What it may not do.


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_plain_run_fails_with_what_middleware_raises(with_middleware, when):
    rig = with_middleware(calling(**{when: raising(LookupError("no such tenant"))}))

    job = rig.run(lambda context: leave("plain"), max_attempts=2)

    assert (job.state, job.attempts) == (State.READY, 1)
    assert job.error_list[0]["exception_class_path"] == "builtins.LookupError"
    assert effects("plain") == (when == "after")


def test_an_atomic_task_does_not_begin_if_middleware_raises_before(with_middleware):
    rig = with_middleware(calling(before=raising(LookupError())))

    job = rig.run(lambda _context: leave("atomic"), atomic=True, max_attempts=1)

    assert (job.state, effects("atomic")) == (State.FAILED, 0)


def test_what_middleware_raises_after_the_commit_changes_nothing(with_middleware, caplog):
    rig = with_middleware(calling(after=raising(LookupError("too late"))))

    job = rig.run(lambda _context: leave("atomic"), atomic=True)

    assert (job.state, effects("atomic")) == (State.SUCCEEDED, 1)
    assert "middleware raised after the run" in caplog.text
    assert "too late" in caplog.text


def test_nor_after_a_commit_by_hand(with_middleware):
    rig = with_middleware(calling(after=raising(LookupError())))

    def body(context):
        with context.commit() as finish:
            leave("by hand")
            finish.return_value = 1

    job = rig.run(body)

    assert (job.state, job.return_value, effects("by hand")) == (State.SUCCEEDED, 1, 1)


@pytest.mark.parametrize(
    ("raised", "state", "attempts"),
    [
        (Snooze(SOON), State.READY, 0),
        (Cancel(), State.CANCELLED, 1),
        (Discard(), State.FAILED, 1),
        (Retry(), State.READY, 1),
    ],
    ids=lambda value: type(value).__name__,
)
def test_middleware_may_end_a_run_before_its_task(with_middleware, kind, raised, state, attempts):
    rig = with_middleware(calling(before=raising(raised)))

    job = rig.run(lambda _context: leave("never"), **kind)

    assert (job.state, job.attempts, effects("never")) == (state, attempts, 0)


def test_middleware_may_raise_another_exception_instead(with_middleware, kind):
    def factory(get_result):
        def middleware(run):
            try:
                return get_result(run)
            except ConnectionError as error:
                raise Snooze(SOON) from error

        return middleware

    rig = with_middleware(factory)

    job = rig.run(raising(ConnectionError()), max_attempts=1, **kind)

    assert (job.state, job.attempts, job.error_list) == (State.READY, 0, [])


def test_an_exception_that_middleware_swallows_counts_all_the_same(with_middleware, kind):
    def factory(get_result):
        def middleware(run):
            try:
                get_result(run)
            except ValueError:
                return "all is well"

        return middleware

    rig = with_middleware(factory)

    def body(_context):
        leave("swallowed")
        raise ValueError

    job = rig.run(body, max_attempts=1, **kind)

    assert job.state == State.FAILED
    assert effects("swallowed") == ("atomic" not in kind)


def test_what_middleware_returns_is_not_the_result(with_middleware, kind):
    def factory(get_result):
        def middleware(run):
            get_result(run)
            return "another"

        return middleware

    assert with_middleware(factory).run(lambda _context: 1, **kind).return_value == 1


def test_a_job_whose_middleware_forgets_to_call_has_not_succeeded(with_middleware, kind):
    rig = with_middleware(lambda get_result: lambda run: "forgotten")

    job = rig.run(lambda _context: leave("never"), max_attempts=2, **kind)

    assert (job.state, effects("never")) == (State.READY, 0)
    (error,) = job.error_list
    assert error["exception_class_path"] == "aftercommit.errors.MiddlewareError"
    assert "without having called get_result(run)" in error["traceback"]


def test_a_task_is_not_run_twice(with_middleware, kind):
    raised = []

    def factory(get_result):
        def middleware(run):
            get_result(run)
            try:
                return get_result(run)
            except MiddlewareError as error:
                raised.append(error)

        return middleware

    rig = with_middleware(factory)

    job = rig.run(lambda _context: leave("twice"), **kind)

    assert (job.state, effects("twice"), len(raised)) == (State.SUCCEEDED, 1, 1)


def test_secrets_are_hidden_from_middleware(with_middleware, configure):
    seen = []
    middleware = [calling(after=lambda run: seen.append(run.error))]
    configure(secret_keys=[secret_tasks.NEW], middleware=middleware)
    rig = with_middleware()
    job_id = rig.enqueue_task(secret_tasks.charge, "refused", Secret(secret_tasks.CANARY))
    rig._tasks.clear()  # as the backend says

    assert rig.run_again(job_id).state == State.READY
    assert "refused" in str(seen[0])
    assert secret_tasks.CANARY not in f"{seen[0]!r} {seen[0]}"


# Interrupts.


def test_a_lost_claim_stays_lost(with_middleware, kind):
    def factory(get_result):
        def middleware(run):
            try:
                return get_result(run)
            except ClaimLost as error:
                raise ValueError from error

        return middleware

    rig = with_middleware(factory)

    job = rig.run(raising(ClaimLost()), max_attempts=1, **kind)

    assert (job.state, job.attempts) == (State.READY, 0)


def test_a_timeout_passes_through(with_middleware, kind):
    log = []
    rig = with_middleware(noting(log))

    assert rig.run(raising(TimedOut()), max_attempts=2, **kind).state == State.READY
    assert log[1:] == [("only TimedOut", "retry")]


# Coroutines.


def async_noting(log):
    """Return a factory of async middleware that notes what it sees."""

    @async_only_middleware
    def factory(get_result):
        async def middleware(run):
            log.append("before")
            try:
                return await get_result(run)
            finally:
                log.append(f"after {run.outcome}")

        return middleware

    return factory


class Both:
    """Middleware as a class, for both kinds of tasks."""

    sync_capable = async_capable = True

    def __init__(self, get_result):
        self.get_result = get_result
        self.is_async = asyncio.iscoroutinefunction(get_result)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, run):
        seen_by_both.append((self.is_async, threading.current_thread().name))
        return self.get_result(run)


seen_by_both = []


@pytest.mark.parametrize("is_async", [False, True], ids=["function", "coroutine"])
@pytest.mark.parametrize("order", [0, 1], ids=["sync outside", "async outside"])
def test_each_kind_of_middleware_stands_around_each_kind_of_task(
    with_middleware, is_async, order
):
    log, sync_log = [], []
    factories = [noting(sync_log), async_noting(log), Both]
    rig = with_middleware(*(reversed(factories) if order else factories))
    seen_by_both.clear()

    async def acall(_context):
        await Effect.objects.acreate(key="kinds")
        return await asyncio.sleep(0, 7)

    def call(_context):
        leave("kinds")
        return 7

    job = rig.run(acall if is_async else call)

    assert (job.state, job.return_value, effects("kinds")) == (State.SUCCEEDED, 7, 1)
    assert log == ["before", "after succeeded"]
    assert sync_log == [("only before", None), ("only 7", "succeeded")]
    assert len(seen_by_both) == 1


@pytest.mark.parametrize("factory", [noting, async_noting], ids=["sync", "async"])
def test_what_a_coroutine_raises_passes_through(with_middleware, factory):
    log = []
    rig = with_middleware(factory(log))

    async def body(_context):
        await asyncio.sleep(0)
        raise ValueError

    assert rig.run(body, max_attempts=1).state == State.FAILED
    assert "failed" in str(log)


def test_middleware_of_a_coroutine_that_is_for_both_needs_no_thread(with_middleware):
    rig = with_middleware(Both)
    seen_by_both.clear()

    async def body(_context):
        return threading.current_thread().name

    job = rig.run(body)

    assert seen_by_both == [(True, job.return_value)]


def test_a_variable_set_around_a_coroutine_is_seen_in_it(with_middleware):
    @sync_and_async_middleware
    def factory(get_result):
        async def middleware(run):
            VARIABLE.set(run.job_id)
            return await get_result(run)

        return middleware

    async def body(_context):
        return VARIABLE.get()

    for around in (factory, calling(before=lambda run: VARIABLE.set(run.job_id))):
        rig = with_middleware(around)
        job = rig.run(body)
        assert job.return_value == str(job.id)


@pytest.mark.parametrize("factory", [noting, async_noting], ids=["sync", "async"])
def test_a_coroutine_is_cancelled_inside_middleware(with_middleware, factory):
    log = []
    rig = with_middleware(factory(log))

    async def body(context):
        (run,) = (one for one in rig._held.values() if str(one.claim.job_id) == context.job_id)
        run.interrupt(Cancel)
        await asyncio.sleep(30)

    assert rig.run(body).state == State.CANCELLED
    assert "cancelled" in str(log)


# Nobody pays who has none.


def test_without_middleware_no_function_is_called_for_it(rig, monkeypatch):
    monkeypatch.setattr("aftercommit.worker.running.executor.Passage", None)

    assert rig.run(lambda _context: 1).return_value == 1


@task(atomic=True)
def atomic_one():
    """Do nothing."""
