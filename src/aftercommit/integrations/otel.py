"""OpenTelemetry: a span for each enqueue and each run, in one trace or linked.

By the semantic conventions for messaging: an enqueue is a ``send``, a run a ``process``. The
names of the spans have the task in the place of the queue, which is an attribute: all spans of a
project would have the same name otherwise.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode

from aftercommit.middleware import FAILED, RETRY, Enqueuing, JobRun, around
from aftercommit.options.queues import QUEUE_PREFIX
from aftercommit.version import VERSION

try:
    from opentelemetry.instrumentation import utils
except ImportError:  # nothing is instrumented, so there is nothing to suppress
    utils = None  # type: ignore[assignment]

SYSTEM = "aftercommit"
tracer = trace.get_tracer(SYSTEM, VERSION)


@contextmanager
def headers(enqueuing: Enqueuing) -> Iterator[dict[str, str]]:
    """Make a producer span of a call that enqueues, and pass its context to the jobs."""
    attributes: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": "enqueue",
        "messaging.operation.type": "send",
        "messaging.destination.name": enqueuing.queue,
        "code.function.name": enqueuing.name,
        "aftercommit.backend": enqueuing.backend,
    }
    if len(enqueuing.job_ids) == 1:
        attributes["messaging.message.id"] = enqueuing.job_ids[0]
    else:
        attributes["messaging.batch.message_count"] = len(enqueuing.job_ids)
    name = f"enqueue {enqueuing.name}"
    with tracer.start_as_current_span(name, kind=SpanKind.PRODUCER, attributes=attributes):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        yield carrier


@contextmanager
def _run_span(run: JobRun, *, continues: bool) -> Iterator[None]:
    contexts = [propagate.extract(one.headers, context=Context()) for one in run.runs]
    alone = len(contexts) == 1
    span = tracer.start_span(
        f"{_operation(run)} {run.name}",
        context=contexts[0] if continues and alone else Context(),
        kind=SpanKind.CLIENT if _is_relayed(run) else SpanKind.CONSUMER,
        links=list(_links(contexts)),
        attributes=_attributes(run),
    )
    # Not start_as_current_span(): it makes an error of each exception, also of a Snooze. And the
    # baggage of the enqueuer goes on, also if its span is not the parent.
    inside = trace.set_span_in_context(span, contexts[0] if alone else Context())
    with _attached(inside), _ended(span, run):
        yield


@contextmanager
def _attached(context: Context) -> Iterator[None]:
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


@contextmanager
def _ended(span: Span, run: JobRun) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if run.outcome in {None, RETRY, FAILED}:
            span.record_exception(error)
            span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
            span.set_attribute("error.type", f"{type(error).__module__}.{type(error).__name__}")
        raise
    finally:
        if run.outcome is not None:
            span.set_attribute("aftercommit.outcome", run.outcome)
        span.end()


def _links(contexts: Sequence[Context]) -> Iterator[Link]:
    for context in contexts:
        found = trace.get_current_span(context).get_span_context()
        if found.is_valid:
            yield Link(found)


def _attributes(run: JobRun) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.system": SYSTEM,
        "messaging.operation.name": _operation(run),
        "messaging.operation.type": "send" if _is_relayed(run) else "process",
        "messaging.destination.name": run.queue,
        "code.function.name": run.name,
        "aftercommit.backend": run.backend,
    }
    if len(run.runs) == 1:
        found["messaging.message.id"] = run.job_id
        found["aftercommit.attempt"] = run.attempt
        found["aftercommit.wait"] = run.wait.total_seconds()
    else:
        found["messaging.batch.message_count"] = len(run.runs)
    return found


def _is_relayed(run: JobRun) -> bool:
    """Return whether it publishes messages for another library, whose consumers process them."""
    return run.queue.startswith(QUEUE_PREFIX)


def _operation(run: JobRun) -> str:
    return "publish" if _is_relayed(run) else "run"


def _quiet() -> AbstractContextManager[Any]:
    """Let instrumented drivers make no spans of the worker's own statements."""
    return nullcontext() if utils is None else utils.suppress_instrumentation()


# A run is a child of its enqueue, in one trace. That of a batch has links to all of them.
middleware = around(partial(_run_span, continues=True), headers=headers, around_worker=_quiet)

# A run has a trace of its own, with a link to its enqueue: for jobs that run hours later.
linked_middleware = around(
    partial(_run_span, continues=False), headers=headers, around_worker=_quiet
)
