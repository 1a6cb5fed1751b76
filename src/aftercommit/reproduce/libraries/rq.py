"""RQ and django-rq: every way to enqueue ends in one of three methods of ``Queue``."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rq import Queue
from rq.job import Job, JobStatus

from aftercommit.relayed import is_kept
from aftercommit.reproduce.libraries import Library, Taker, noted, patched

WAYS = ("enqueue_job", "schedule_job", "enqueue_many")


@contextmanager
def intercept(taker: Taker) -> Iterator[None]:
    """Take all jobs, of queues that are not async, too."""
    enqueue_job, schedule_job = Queue.enqueue_job, Queue.schedule_job

    def taken(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Queue, job: Job, *args: Any, **options: Any) -> Job:
            when = getattr(job.func, "aftercommit", None)
            kept = self._is_async and is_kept("rq", when)
            if kept:
                job = original(self, job, *args, **options)
            else:
                job._status = JobStatus.QUEUED
            taker.dispatch(
                job.func_name, job.args, job.kwargs, run=job.perform, id=job.id, kept=kept
            )
            return job

        return send

    def enqueue_many(
        self: Queue, job_datas: Iterable[Any], pipeline: Any = None, group_id: str | None = None
    ) -> list[Job]:
        jobs = []
        for data in job_datas:
            fields = data._asdict()
            at_front = fields.pop("at_front")
            job = self.create_job(**fields, status=JobStatus.QUEUED, group_id=group_id)
            jobs.append(self.enqueue_job(job, at_front=at_front))
        return jobs

    with patched(
        Queue,
        enqueue_job=taken(enqueue_job),
        schedule_job=taken(schedule_job),
        enqueue_many=enqueue_many,
    ):
        yield


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all dispatches."""
    with noted(note, Queue, *WAYS):
        yield


LIBRARY = Library(intercept=intercept, watch=watch)
