"""aftercommit's own queue and its relay: jobs are rows, and a worker sees what is committed."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aftercommit.enqueue.configured import our_backends
from aftercommit.options.queues import queues_of
from aftercommit.relay import publish
from aftercommit.relay.outbox import PUBLISH, relaying
from aftercommit.reproduce.dispatches import call_text
from aftercommit.reproduce.libraries import Library, Taker, patched
from aftercommit.reproduce.play import Drain, Stored
from aftercommit.store.insert import Inserting
from aftercommit.stored import without_version
from aftercommit.testing.running import run_jobs
from aftercommit.values import NewJob


@contextmanager
def intercept(taker: Taker) -> Iterator[Drain | None]:
    """Yield what runs jobs that are due, and publishes what the relay keeps to ``taker``."""
    if not our_backends():
        yield None
        return
    brokers = {name for one in relaying() for name in one.config.relay}
    queues = [queue for name in sorted(brokers) for queue in queues_of(name)]

    def drain() -> Sequence[Stored]:
        if queues:
            run_jobs(queue=queues, raise_errors=False)
        return [_stored(one) for one in run_jobs(raise_errors=False)]

    def publish_many(calls: Sequence[Mapping[str, Any]], report: Any) -> None:
        for number, call in enumerate(calls):
            taker.publish(call["message_id"])
            report(number, None)

    def inserted(job: NewJob) -> None:
        given = json.loads(job.payload)
        if job.task_path == PUBLISH:  # the library of the message tells of it
            taker.keep(given["kwargs"]["message_id"])
        else:
            name = without_version(job.task_path)
            taker.dispatch(name, given["args"], given["kwargs"], run=None, id=str(job.id))

    with patched(publish, publish_many=publish_many), _inserting(inserted):
        yield drain


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all jobs."""
    with _inserting(lambda _job: note()):
        yield


@contextmanager
def _inserting(inserted: Callable[[NewJob], None]) -> Iterator[None]:
    """Tell of each job, whichever of the many ways it was enqueued by."""
    insert, insert_one = Inserting.insert, Inserting.insert_one

    def several(self: Inserting, jobs: Sequence[NewJob]) -> Any:
        result = insert(self, jobs)
        for job in jobs:
            inserted(job)
        return result

    def one(self: Inserting, job: NewJob) -> Any:
        result = insert_one(self, job)
        inserted(job)
        return result

    with patched(Inserting, insert=several, insert_one=one):
        yield


def _stored(result: Any) -> Stored:
    name, error = result.task.module_path, None
    if result.errors:
        lines = (result.errors[-1].traceback or "").strip().splitlines()
        error = lines[-1] if lines else result.errors[-1].exception_class_path
    return Stored(str(result.id), name, call_text(name, result.args, result.kwargs), error)


LIBRARY = Library(intercept=intercept, watch=watch)
