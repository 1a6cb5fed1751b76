"""Sentry: its own SDK, and a transport that keeps what would be sent."""

import asyncio
import logging
import threading
from datetime import timedelta

import pytest
import sentry_sdk
from sentry_sdk.integrations import _installed_integrations, _processed_integrations
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from aftercommit import Cancel, Discard, Snooze, enqueue_many, events, schedules, task
from aftercommit.integrations import sentry
from aftercommit.log import write_log
from aftercommit.models import Job
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

logger = logging.getLogger("shop")
bodies = {}
DEADLINE = 30  # seconds


class Kept(Transport):
    """Keeps what it is given."""

    items = []

    def capture_envelope(self, envelope):
        self.items.extend((one.type, one.payload.json) for one in envelope.items)


@task(max_attempts=2, backoff=timedelta(hours=1))
def call(name):
    return bodies[name]()


@task(max_attempts=1)
async def acall(name):
    return await bodies[name]()


@task(max_attempts=1, atomic=True)
def atomic(name):
    return bodies[name]()


@task(batch_size=16, max_attempts=1)
def collect(calls):
    raise ValueError("the batch")


def reports(error="lost"):
    """Leave a breadcrumb, and fail."""
    logger.info("about to fail: %s", error)
    raise ValueError(error)


def wait_for_all(gate, name):
    """Fail when all others have begun."""

    def body():
        sentry_sdk.set_tag("mine", name)
        logger.info("crumb of %s", name)
        gate.wait(DEADLINE)
        raise ValueError(name)

    return body


@pytest.fixture(scope="module", autouse=True)
def _sentry():
    """Switch Sentry on for these tests; nothing of it is left afterwards."""
    patched = logging.Logger.callHandlers
    levels = {name: logging.getLogger(name).level for name in ("shop", "aftercommit")}
    sentry_sdk.init(
        dsn="https://public@sentry.invalid/1",
        transport=Kept,
        traces_sample_rate=1.0,
        default_integrations=False,
        integrations=[LoggingIntegration(), DedupeIntegration()],
    )
    logger.setLevel(logging.INFO)
    yield
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)
    logging.Logger.callHandlers = patched
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for known in (_installed_integrations, _processed_integrations):
        known -= {"logging", "dedupe"}


@pytest.fixture
def sent(settings):
    """Let Sentry see the runs; return what it is sent, by its type."""
    before = settings.TASKS["default"]
    options = {**before["OPTIONS"], "middleware": ["aftercommit.integrations.sentry.middleware"]}
    settings.TASKS = {"default": {**before, "OPTIONS": options}}
    Kept.items.clear()
    bodies.clear()
    write_log()
    yield lambda kind: [json for one, json in Kept.items if one == kind]
    for name in ("job_ended", "claim_lost", "job_rescued", "schedule_checked_in"):
        getattr(events, name).disconnect(dispatch_uid=events.LOG_RECEIVER)
    events.schedule_checked_in.disconnect(dispatch_uid="aftercommit.integrations.sentry")


def trace_of(event):
    return event["contexts"]["trace"]


def test_a_run_is_a_transaction_that_continues_the_trace(sent):
    bodies["ok"] = lambda: None
    with sentry_sdk.start_transaction(name="GET /", op="http.server"):
        result = call.enqueue("ok")

    work(threads=1)

    request, run = sent("transaction")
    assert (run["transaction"], run["transaction_info"]) == (call.module_path, {"source": "task"})
    trace = trace_of(run)
    assert trace["trace_id"] == trace_of(request)["trace_id"]
    (publish,) = request["spans"]
    assert (publish["op"], publish["span_id"]) == ("queue.publish", trace["parent_span_id"])
    assert (trace["op"], trace["status"]) == ("queue.process", "ok")
    assert trace["data"]["messaging.message.id"] == result.id
    assert trace["data"]["messaging.destination.name"] == "default"
    assert run["contexts"]["aftercommit"]["attempt"] == 1


def test_a_job_without_a_trace_begins_one(sent):
    bodies["ok"] = lambda: None
    call.enqueue("ok")
    Job.objects.update(headers=None)

    work(threads=1)

    assert len(sent("transaction")) == 1


@pytest.mark.parametrize("declared", [call, atomic], ids=["plain", "atomic"])
def test_a_failure_is_one_event_with_its_task_and_breadcrumbs(sent, declared):
    bodies["bad"] = reports
    declared.using(max_attempts=1).enqueue("bad")

    work(threads=1)

    (event,) = sent("event")
    (error,) = event["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "lost")
    assert error["mechanism"] == {"type": "aftercommit", "handled": False}
    assert error["stacktrace"]["frames"][-1]["function"] == "reports"
    assert event["transaction"] == declared.module_path
    assert event["tags"]["aftercommit.task"] == declared.module_path
    assert [one["message"] for one in event["breadcrumbs"]["values"]] == ["about to fail: lost"]
    (run,) = sent("transaction")
    assert trace_of(event)["trace_id"] == trace_of(run)["trace_id"]
    assert trace_of(run)["status"] == "internal_error"


def test_without_the_middleware_it_would_be_two(sent, monkeypatch):
    monkeypatch.setattr(sentry_sdk.scope, "global_event_processors", [])
    bodies["bad"] = reports
    call.using(max_attempts=1).enqueue("bad")

    work(threads=1)

    assert len(sent("event")) > 1


def test_a_run_that_is_retried_is_no_event_until_it_fails_for_good(sent):
    bodies["bad"] = reports
    call.enqueue("bad")

    work(threads=1)
    assert sent("event") == []

    Job.objects.update(run_after="2020-01-01T00:00:00Z")
    work(threads=1)
    assert len(sent("event")) == 1
    assert [trace_of(one)["status"] for one in sent("transaction")] == ["internal_error"] * 2


@pytest.mark.parametrize(
    ("error", "status"),
    [(Snooze(timedelta(hours=1)), "aborted"), (Cancel(), "cancelled"), (Discard(), "aborted")],
    ids=lambda value: type(value).__name__,
)
def test_what_the_task_has_decided_is_no_event(sent, error, status):
    def body():
        raise error

    bodies["decided"] = body
    call.enqueue("decided")

    work(threads=1)

    assert sent("event") == []
    assert [trace_of(one)["status"] for one in sent("transaction")] == [status]


def test_a_failure_before_the_middleware_is_one_event_too(sent):
    call.enqueue("bad")
    Job.objects.update(payload='{"args": [], "kwargs": {}, "secrets": "of no key"}')

    work(threads=1)

    (event,) = sent("event")
    assert event["exception"]["values"][-1]["type"] == "SecretsUnreadable"
    assert event["transaction"] == call.module_path


def test_a_batch_that_fails_is_one_event(sent):
    enqueue_many(collect, [(1,), (2,), (3,)])

    work(threads=1)

    assert len(sent("event")) == len(sent("transaction"))
    assert sum(one["contexts"]["aftercommit"]["jobs_in_call"] for one in sent("event")) == 3


def test_other_errors_in_the_log_are_events_as_before(sent):
    logging.getLogger("aftercommit").error("Database %r does not answer", "default")
    logging.getLogger("django.tasks").error("something else", exc_info=ValueError("other"))

    assert len(sent("event")) == 2


@pytest.mark.parametrize("is_async", [False, True], ids=["threads", "coroutines"])
def test_concurrent_runs_do_not_share_a_scope(sent, is_async):
    names = ["a", "b", "c"]
    gate = threading.Barrier(len(names)) if not is_async else None
    begun = []
    for name in names:
        bodies[name] = wait_for_all(gate, name) if not is_async else _failing(begun, names, name)
        (acall if is_async else call.using(max_attempts=1)).enqueue(name)

    work(threads=len(names))

    found = {one["exception"]["values"][-1]["value"]: one for one in sent("event")}
    assert sorted(found) == names
    for name, event in found.items():
        assert event["tags"]["mine"] == name
        assert [one["message"] for one in event["breadcrumbs"]["values"]] == [f"crumb of {name}"]


def _failing(begun, names, name):
    async def body():
        sentry_sdk.set_tag("mine", name)
        logger.info("crumb of %s", name)
        begun.append(name)
        while len(begun) < len(names):
            await asyncio.sleep(0)
        raise ValueError(name)

    return body


def test_a_scope_does_not_reach_the_next_run_of_a_thread(sent):
    def first():
        sentry_sdk.set_tag("first", "yes")
        sentry_sdk.get_isolation_scope().set_tag("isolated", "yes")
        logger.info("first crumb")
        raise ValueError("first")

    bodies["first"], bodies["second"] = first, reports
    for name in ("first", "second"):
        call.using(max_attempts=1).enqueue(name)
        work(threads=1)

    second = sent("event")[1]
    assert not {"first", "isolated"} & set(second["tags"])
    assert len(second["breadcrumbs"]["values"]) == 1


def test_a_schedule_is_a_monitor(sent, settings):
    sentry.monitor_schedules(exclude=["quiet"])
    bodies["ok"] = lambda: None
    given = {"task": call.module_path, "args": ["ok"]}
    schedules.create("shop.nightly", cron="0 4 * * *", timezone="Europe/Athens", **given)
    schedules.create("often", every=timedelta(minutes=5), **given)
    schedules.create("quiet", every=timedelta(seconds=5), **given)
    for name in ("shop.nightly", "often", "quiet"):
        schedules.run_now(name)
    work(threads=1)

    found = {}
    for one in sent("check_in"):
        found.setdefault(one["monitor_slug"], []).append(one)

    assert sorted(found) == ["often", "shop-nightly"]
    for begun, ended in found.values():
        assert (begun["status"], ended["status"]) == ("in_progress", "ok")
        assert begun["check_in_id"] == ended["check_in_id"]
        assert ended["duration"] >= 0
    assert found["shop-nightly"][0]["monitor_config"] == {
        "schedule": {"type": "crontab", "value": "0 4 * * *"},
        "timezone": "Europe/Athens",
    }
    assert found["often"][0]["monitor_config"]["schedule"]["value"] == 5
