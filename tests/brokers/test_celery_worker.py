"""What Celery's worker publishes while it runs a task, such as the next step of a workflow."""

import json

import pytest
from celery import Celery, chain, chord, current_app, group
from celery.app.trace import build_tracer
from django.db import transaction

from aftercommit.relay.brokers.base import as_bytes
from tests.app.models import Effect
from tests.brokers.addresses import broker_url, queue_name
from tests.brokers.conftest import kept

# Nobody listens there: each message is kept, or lost.
flow = Celery(
    "flow", broker="redis://127.0.0.1:1/0", backend=broker_url("redis"), set_as_current=False
)
flow.conf.update(
    task_default_queue=queue_name("flow"),
    task_publish_retry_policy={"max_retries": 1, "interval_start": 0, "interval_step": 0},
    broker_transport_options={"max_retries": 1, "interval_start": 0, "interval_step": 0},
    result_expires=60,
    task_send_sent_event=True,
)


@flow.task(name="flow.note")
def note(*words):
    """Leave an effect for the last word."""
    Effect.objects.create(key=str(words[-1]))


@flow.task(name="flow.fails")
def fails():
    """Fail, as a task may."""
    raise ValueError


@flow.task(name="flow.replaced", bind=True)
def replaced(self, word):
    """Be another task."""
    raise self.replace(note.si(word))


@flow.task(name="flow.tries_again", bind=True, max_retries=1)
def tries_again(self, word):
    """Run twice."""
    if not self.request.retries:
        raise self.retry(countdown=1)
    note(word)


@flow.task(name="flow.sends")
def sends(word):
    """Send another task inside a transaction."""
    with transaction.atomic():
        note.delay(word)


FLOWS = {
    "chain": chain(note.si("a"), note.si("b"), note.si("c")),
    "link": note.si("a").set(link=[note.si("b")]),
    "links": note.si("a").set(link=[note.si("b"), note.si("c")]),
    "link of a group": note.si("a").set(link=[group(note.si("b"), note.si("c")), note.si("d")]),
    "link_error": fails.si().set(link_error=[note.s("a")]),
    "links of an error": fails.si().set(link_error=[note.s("a"), note.s("b")]),
    "group in a chain": chain(note.si("a"), group(note.si("b"), note.si("c")), note.si("d")),
    "chord": chord([note.si("a"), note.si("b")], note.si("c")),
    "chord of an error": chord([note.si("a"), fails.si()], note.si("z").on_error(note.s("b"))),
    "chord in a chain": chain(chord([note.si("a"), note.si("b")], note.si("c")), note.si("d")),
    "group": group(note.si("a"), note.si("b")),
    "map": note.map(["a", "b"]),
    "replace": replaced.si("a"),
    "retry": tries_again.si("a"),
    "sends": sends.si("a"),
}
LEFT = {
    "link_error": "a",
    "links of an error": "ab",
    "chord of an error": "ab",
    "replace": "a",
    "retry": "a",
    "sends": "a",
    "link": "ab",
    "group": "ab",
    "map": "ab",
}


@pytest.fixture
def current():
    """Make the app the current one, whose result backend some versions use for a chord."""
    before = current_app._get_current_object()
    flow.set_current()
    yield
    before.set_current()


def deliver(job):
    """Run a kept message as Celery's worker does."""
    (message, *events) = job.kwargs["content"]["publishes"]
    assert len(events) == 1  # task-sent
    args, kwargs, embedded = json.loads(as_bytes(message["body"]))
    headers = message["headers"]
    task = flow.tasks[headers["task"]]
    request = {**headers, **embedded, "args": args, "kwargs": kwargs, "delivery_info": {}}
    job.delete()
    build_tracer(task.name, task, app=flow)(headers["id"], args, kwargs, request)


# Celery's result backend calls what redis-py has renamed.
@pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")
@pytest.mark.parametrize("when", ["always", "in_transaction"])
@pytest.mark.parametrize("name", FLOWS)
def test_each_step_of_a_workflow_is_kept_while_the_broker_is_away(
    name, when, redis, relayed, current
):
    relayed("celery", relay_when=when)
    FLOWS[name].clone().apply_async()
    steps = 0
    while jobs := kept():
        steps += 1
        assert steps < 20
        deliver(jobs[0])

    expected = LEFT.get(name, "abcd" if "in a chain" in name or "of a group" in name else "abc")
    assert sorted(Effect.objects.values_list("key", flat=True)) == sorted(expected)
