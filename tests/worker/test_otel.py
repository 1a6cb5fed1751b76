"""Traces of OpenTelemetry: its own SDK, its own instrumentation of the database drivers."""

import asyncio
import importlib
from contextlib import contextmanager
from datetime import timedelta

import psycopg
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection, connections, transaction
from opentelemetry import baggage, context
from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from aftercommit import Cancel, Discard, Snooze, chain, enqueue_many, gather, task
from aftercommit.integrations import otel
from aftercommit.models import Job
from aftercommit.stored import read_headers
from tests.app.models import Effect
from tests.worker.rig import commits, work

pytestmark = [commits, pytest.mark.usefixtures("one_backend")]

bodies = {}


@task(max_attempts=2, backoff=timedelta(hours=1))
def call(name):
    return bodies[name]()


@task(max_attempts=1)
async def acall(name):
    return await bodies[name]()


@task(batch_size=16)
def collect(calls):
    Effect.objects.create(key=f"{len(calls)}")


class Spans:
    """The spans that have ended."""

    def __init__(self, exporter):
        self._exporter = exporter

    def all(self):
        return self._exporter.get_finished_spans()

    def named(self, word):
        return [one for one in self.all() if one.name.split()[0] == word]

    def only(self, word):
        (span,) = self.named(word)
        return span


@pytest.fixture
def provider():
    made = TracerProvider()
    yield made
    made.shutdown()


@pytest.fixture
def spans(provider, monkeypatch):
    """Return what is exported; by a provider of this test alone."""
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(otel, "tracer", provider.get_tracer("aftercommit"))
    bodies.clear()
    return Spans(exporter)


@pytest.fixture
def traced(settings, spans):
    """Return a function that puts the middleware into the settings."""

    def traced(middleware=otel.middleware, **options):
        before = settings.TASKS["default"]
        options = {**before["OPTIONS"], "middleware": [middleware], **options}
        settings.TASKS = {"default": {**before, "OPTIONS": options}}

    traced()
    return traced


@pytest.fixture
def instrumented(provider):
    """Let the driver of this database make a span of each statement, until the test is over."""
    kinds = {"sqlite": SQLite3Instrumentor, "postgresql": PsycopgInstrumentor}
    if connection.vendor not in kinds:
        pytest.skip("the driver of this database has no instrumentation here")
    instrumentor = kinds[connection.vendor]()
    connections.close_all()
    connect = psycopg.Connection.__dict__["connect"]
    instrumentor.instrument(tracer_provider=provider, skip_dep_check=True)
    yield
    instrumentor.uninstrument()
    # It puts back a method that is bound, by which subclasses would connect as this class.
    psycopg.Connection.connect = connect
    connections.close_all()


def id_of(span):
    return span.context.span_id


def links(span):
    return [(one.context.trace_id, one.context.span_id) for one in span.links]


def test_a_run_continues_the_trace_of_its_enqueuer(traced, spans, provider):
    bodies["ok"] = lambda: None
    with provider.get_tracer("web").start_as_current_span("GET /") as request:
        result = call.enqueue("ok")

    work(threads=1)

    send, run = spans.only("enqueue"), spans.only("run")
    assert send.parent.span_id == request.get_span_context().span_id
    assert (send.kind, run.kind) == (SpanKind.PRODUCER, SpanKind.CONSUMER)
    assert run.parent.span_id == id_of(send)
    assert {one.context.trace_id for one in (send, run)} == {request.get_span_context().trace_id}
    assert links(run) == [(send.context.trace_id, id_of(send))]
    assert run.name == f"run {call.module_path}"
    common = {
        "messaging.system": "aftercommit",
        "messaging.destination.name": "default",
        "messaging.message.id": result.id,
        "code.function.name": call.module_path,
        "aftercommit.backend": "default",
    }
    assert dict(send.attributes) == common | {
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
    }
    wait = run.attributes["aftercommit.wait"]
    assert dict(run.attributes) == common | {
        "messaging.operation.name": "run",
        "messaging.operation.type": "process",
        "aftercommit.attempt": 1,
        "aftercommit.outcome": "succeeded",
        "aftercommit.wait": wait,
    }
    assert run.status.status_code is StatusCode.UNSET


def test_our_attributes_are_those_of_the_conventions():
    known = importlib.import_module(
        "opentelemetry.semconv._incubating.attributes.messaging_attributes"
    )
    ours = importlib.import_module("inspect").getsource(otel)
    names = {value for name, value in vars(known).items() if name.startswith("MESSAGING_")}

    used = {one.split('"')[0] for one in ours.split('"messaging.')[1:]}

    assert used
    assert {f"messaging.{one}" for one in used} <= names


def test_linked_runs_have_a_trace_of_their_own(traced, spans):
    traced(otel.linked_middleware)
    bodies["ok"] = lambda: None
    call.enqueue("ok")

    work(threads=1)

    send, run = spans.only("enqueue"), spans.only("run")
    assert run.parent is None
    assert run.context.trace_id != send.context.trace_id
    assert links(run) == [(send.context.trace_id, id_of(send))]


def test_spans_and_baggage_of_the_task_are_inside_the_run(traced, spans, provider):
    def body():
        with provider.get_tracer("shop").start_as_current_span("inner"):
            return baggage.get_baggage("customer")

    bodies["inner"] = body
    token = context.attach(baggage.set_baggage("customer", "anna"))
    result = call.enqueue("inner")
    context.detach(token)

    work(threads=1)

    result.refresh()
    assert result.return_value == "anna"
    assert spans.only("inner").parent.span_id == id_of(spans.only("run"))


def test_coroutines_are_traced_alike(traced, spans, provider):
    async def body():
        with provider.get_tracer("shop").start_as_current_span("inner"):
            await asyncio.sleep(0)
            await Effect.objects.acreate(key="async")

    bodies["inner"] = body
    with provider.get_tracer("web").start_as_current_span("GET /"):
        async_to_sync(acall.aenqueue)("inner")

    work(threads=2)

    send, run = spans.only("enqueue"), spans.only("run")
    assert send.parent.span_id == id_of(spans.only("GET"))
    assert run.parent.span_id == id_of(send)
    assert spans.only("inner").parent.span_id == id_of(run)


def test_concurrent_coroutines_do_not_mix_their_spans(traced, spans, provider):
    async def body():
        with provider.get_tracer("shop").start_as_current_span("inner"):
            await asyncio.sleep(0.01)
            await sync_to_async(Effect.objects.count)()

    bodies["inner"] = body
    for _number in range(5):
        acall.enqueue("inner")

    work(threads=5)

    runs = {id_of(one): one.context.trace_id for one in spans.named("run")}
    inner = {one.parent.span_id: one.context.trace_id for one in spans.named("inner")}
    assert len(runs) == 5
    assert inner == runs


def test_many_jobs_of_one_call_have_one_producer(traced, spans):
    bodies["ok"] = lambda: None
    enqueue_many(call, [("ok",)] * 3)

    work(threads=1)

    send = spans.only("enqueue")
    assert send.attributes["messaging.batch.message_count"] == 3
    assert "messaging.message.id" not in send.attributes
    assert [one.parent.span_id for one in spans.named("run")] == [id_of(send)] * 3


def test_gathered_jobs_and_graphs_have_producers(traced, spans):
    bodies["ok"] = lambda: "ok"
    with gather():
        call.enqueue("ok")
    chain(call.bind("ok"), acall.bind("ok")).enqueue()

    assert len(spans.named("enqueue")) == 3
    assert all(one.headers for one in Job.objects.all())


def test_a_batch_is_linked_to_all_that_have_enqueued(traced, spans):
    for number in range(3):
        collect.enqueue(number)

    work(threads=1)

    sent = {(one.context.trace_id, id_of(one)) for one in spans.named("enqueue")}
    linked = [one for run in spans.named("run") for one in links(run)]
    assert sorted(linked) == sorted(sent)
    for run in spans.named("run"):
        if len(run.links) > 1:
            assert run.parent is None
            assert run.attributes["messaging.batch.message_count"] == len(run.links)


@pytest.mark.parametrize(
    ("error", "outcome", "is_error"),
    [
        (ValueError("no such order"), "retry", True),
        (Snooze(timedelta(hours=1)), "released", False),
        (Cancel(), "cancelled", False),
        (Discard(), "discarded", False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_a_failure_is_an_error(traced, spans, error, outcome, is_error):
    def body():
        raise error

    bodies["bad"] = body
    call.enqueue("bad")

    work(threads=1)

    run = spans.only("run")
    assert run.attributes["aftercommit.outcome"] == outcome
    assert (run.status.status_code is StatusCode.ERROR) == is_error
    assert [one.name for one in run.events] == ["exception"] * is_error
    assert run.attributes.get("error.type") == ("builtins.ValueError" if is_error else None)


def test_each_attempt_is_a_span_of_the_same_trace(traced, spans):
    def body():
        raise ValueError

    bodies["bad"] = body
    call.enqueue("bad")
    work(threads=1)
    Job.objects.update(run_after="2020-01-01T00:00:00Z")
    work(threads=1)

    runs = spans.named("run")
    assert [one.attributes["aftercommit.attempt"] for one in runs] == [1, 2]
    assert [one.attributes["aftercommit.outcome"] for one in runs] == ["retry", "failed"]
    assert len({one.context.trace_id for one in runs}) == 1


def test_an_enqueue_that_fails_is_an_error(traced, spans):
    with pytest.raises(transaction.TransactionManagementError), transaction.atomic():
        transaction.set_rollback(True)
        call.enqueue("ok")

    assert spans.only("enqueue").status.status_code is StatusCode.ERROR


def test_unreadable_headers_of_a_trace_begin_a_new_one(traced, spans):
    bodies["ok"] = lambda: None
    call.enqueue("ok")
    Job.objects.update(headers='{"traceparent": "no trace"}')

    work(threads=1)

    assert spans.only("run").parent is None
    assert read_headers("no JSON") == {}


# The worker's own statements.


@contextmanager
def as_one_trace(provider):
    with provider.get_tracer("web").start_as_current_span("GET /") as span:
        yield span.get_span_context().trace_id


def test_the_workers_own_statements_make_no_spans(traced, spans, provider, instrumented):
    bodies["query"] = Effect.objects.count
    with as_one_trace(provider) as trace_id:
        call.enqueue("query")

    work(threads=2)

    inside = [
        one
        for one in spans.all()
        if one.parent and one.parent.span_id == id_of(spans.only("run"))
    ]
    assert any("SELECT" in one.name.upper() for one in inside)
    strangers = [one.name for one in spans.all() if one.context.trace_id != trace_id]
    assert strangers == []


def test_without_the_middleware_they_do(settings, spans, provider, instrumented):
    bodies["query"] = Effect.objects.count
    with as_one_trace(provider) as trace_id:
        call.enqueue("query")

    work(threads=2)

    assert [one for one in spans.all() if one.context.trace_id != trace_id]
