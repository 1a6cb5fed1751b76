"""The context of a run: task_started, body and task_finished share it, and nobody else does."""

import asyncio
import decimal
import threading
from contextvars import ContextVar, copy_context

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import caches
from django.db import connections, transaction
from django.urls import get_urlconf, set_urlconf
from django.utils import timezone, translation

from aftercommit._compat import task_finished, task_started
from aftercommit.models import State
from tests.app.models import Effect
from tests.worker.rig import commits, leave

pytestmark = commits

VARIABLE = ContextVar("VARIABLE", default="unset")
SCOPE = ContextVar("SCOPE")  # a value that changes, as Sentry's

CHANGES = {
    "language": (lambda: translation.activate("de"), translation.get_language),
    "time zone": (lambda: timezone.activate("Asia/Tokyo"), timezone.get_current_timezone_name),
    "urlconf": (lambda: set_urlconf("tests.docs.site.mysite.urls"), get_urlconf),
    "decimal": (
        lambda: setattr(decimal.getcontext(), "prec", 3),
        lambda: decimal.getcontext().prec,
    ),
    "variable": (lambda: VARIABLE.set("changed"), VARIABLE.get),
    "scope": (lambda: SCOPE.get().append("tag"), lambda: list(SCOPE.get([]))),
}


@pytest.fixture(params=["plain", "atomic", "in company"])
def options(request, alone_and_in_company, rig):
    """Return the options of the task."""
    rig.in_company = request.param == "in company"
    return {"atomic": request.param != "plain"}


def test_the_context_has_the_tags_of_the_job(rig):
    def body(context):
        return context.tags

    assert rig.run(body, tags=["mail", "eu"]).return_value == ["mail", "eu"]
    assert rig.run(body).return_value == []


@pytest.mark.parametrize("alone_and_in_company", ["alone"], indirect=True)
@pytest.mark.parametrize(("change", "look"), CHANGES.values(), ids=CHANGES)
def test_what_a_task_activates_does_not_reach_the_next(rig, options, change, look):
    SCOPE.set([])
    decimal.getcontext().prec = 28  # the thread has one of its own already
    before = look()

    def body(context):
        SCOPE.set([*SCOPE.get([])])
        change()
        assert look() != before
        return str(look())

    first, second = (rig.run(body, max_attempts=1, **options) for _ in "12")

    assert (first.state, second.state) == (State.SUCCEEDED, State.SUCCEEDED)
    assert first.return_value == second.return_value
    assert look() == before


def test_a_value_of_the_thread_that_changes_is_not_there(rig):
    SCOPE.set([])

    def body(context):
        return str(SCOPE.get("none"))

    assert rig.run(body).return_value == "none"


class Ear:
    """Notes what receivers of both signals see, and sets the variable at the start."""

    def __init__(self, own):
        self.own = own
        self.seen = []
        task_started.connect(self.start)
        task_finished.connect(self.finish)

    def start(self, task_result, **_):
        """Set it, after a look at the database."""
        self.seen.append(("started", VARIABLE.get()))
        list(Effect.objects.all())
        self.started_in = threading.get_ident()
        VARIABLE.set("by receiver")

    def finish(self, task_result, **_):
        """Look."""
        self.seen.append(("finished", VARIABLE.get()))

    def close(self):
        """End."""
        task_started.disconnect(self.start)
        task_finished.disconnect(self.finish)


@pytest.fixture
def ear():
    """Return receivers of both signals."""
    ear = Ear("body")
    yield ear
    ear.close()


@pytest.mark.parametrize("alone_and_in_company", ["alone"], indirect=True)
@pytest.mark.parametrize("fails", [False, True])
def test_both_signals_and_the_body_see_one_context(rig, options, ear, fails):
    threads = []

    def body(context):
        ear.seen.append(("body", VARIABLE.get()))
        threads.append(threading.get_ident())
        VARIABLE.set("by body")
        if fails:
            raise ValueError("fails")

    VARIABLE.set("of the thread")
    rig.in_company = False
    rig.run(body, max_attempts=1, **options)

    assert ear.seen == [("started", "unset"), ("body", "by receiver"), ("finished", "by body")]
    assert threads == [ear.started_in]
    assert VARIABLE.get() == "of the thread"
    VARIABLE.set("unset")


def test_in_company_callbacks_and_signals_see_the_context_of_their_own_run(together, rig, ear):
    seen = []

    def body(context):
        VARIABLE.set(context.job_id)
        transaction.on_commit(lambda: seen.append((context.job_id, VARIABLE.get())))
        transaction.on_commit(lambda: seen.append((context.job_id, VARIABLE.get())), robust=True)

    rig.in_company = True
    job = rig.run(body, atomic=True)

    assert seen == [(str(job.id), str(job.id))] * 2
    assert ("finished", str(job.id)) in ear.seen
    assert ("finished", "by receiver") in ear.seen  # the company


def test_an_async_task_sees_what_a_sync_receiver_has_set_in_another_thread(rig, ear):
    loops = []

    async def body(context):
        loops.append(threading.get_ident())
        ear.seen.append(("body", VARIABLE.get()))
        await sync_to_async(leave)("async")
        VARIABLE.set("by body")

    job = rig.run(body, max_attempts=1)

    assert job.state == State.SUCCEEDED
    assert ear.seen == [("started", "unset"), ("body", "by receiver"), ("finished", "by body")]
    assert loops != [ear.started_in]


def test_async_tasks_of_one_loop_have_contexts_of_their_own(rig):
    async def body(context):
        before = VARIABLE.get()
        VARIABLE.set("changed")
        await asyncio.sleep(0)
        decimal.getcontext().prec = 3
        return before

    assert [rig.run(body).return_value for _ in "12"] == ["unset", "unset"]
    assert VARIABLE.get() == "unset"
    assert copy_context().get(VARIABLE, "unset") == "unset"


@pytest.mark.parametrize("atomic", [False, True])
@pytest.mark.parametrize("in_company", [False, True])
def test_a_thread_keeps_its_caches_from_run_to_run(rig, together, atomic, in_company):
    """A new one for each run would connect to the cache each time."""
    used = []
    rig.in_company = in_company

    for _ in "12":
        rig.run(lambda context: used.append(caches["default"]), atomic=atomic)

    assert used[0] is used[1]


def test_receivers_in_another_thread_see_the_language_and_have_caches_of_their_own(rig):
    used, languages = [], []

    def body(context):
        translation.activate("de")
        used.append(caches["default"])

    def note(task_result, **_):
        languages.append(translation.get_language())
        used.append(caches["default"])

    claim = rig.claim(rig.enqueue(body))
    rig.put(claim, rig.execute(claim))
    task_finished.connect(note)
    try:
        thread = threading.Thread(target=lambda: (rig.finisher.write(), connections.close_all()))
        thread.start()
        thread.join()
    finally:
        task_finished.disconnect(note)

    assert languages == ["de"]
    assert used[0] is not used[1]
