"""procrastinate: every way to defer a job ends in a ``JobDeferrer``."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from inspect import iscoroutinefunction
from itertools import count
from typing import Any

from asgiref.sync import async_to_sync
from procrastinate.app import App
from procrastinate.job_context import JobContext
from procrastinate.jobs import JobDeferrer
from procrastinate.tasks import Task

from aftercommit.reproduce.libraries import Library, Taker, noted, patched

WAYS = ("defer", "defer_async", "batch_defer", "batch_defer_async")
TASK = "_aftercommit_task"  # of a deferrer: the app and the task that it was made for


@contextmanager
def intercept(taker: Taker) -> Iterator[None]:
    """Take the jobs of all apps."""
    numbers = count(1)
    configure, configure_task = Task.configure, App.configure_task

    def configured(self: Any, **options: Any) -> JobDeferrer:
        deferrer = configure(self, **options)
        vars(deferrer)[TASK] = self.blueprint, self
        return deferrer

    def task_configured(self: App, name: str, *args: Any, **options: Any) -> JobDeferrer:
        deferrer = configure_task(self, name, *args, **options)
        vars(deferrer)[TASK] = self, self.tasks.get(name)
        return deferrer

    def defer(self: JobDeferrer, **kwargs: Any) -> int:
        job = self.make_new_job(**json.loads(json.dumps(kwargs))).evolve(id=next(numbers))
        app, task = vars(self).get(TASK, (None, None))
        held = getattr(self.job_manager.connector, "alias", None)  # Django's connection
        run = _unknown if task is None else _runner(app, task, job)
        taker.dispatch(
            job.task_name, (), job.task_kwargs, run=run, id=f"procrastinate {job.id}", held=held
        )
        return job.id or 0

    async def defer_async(self: JobDeferrer, **kwargs: Any) -> int:
        return defer(self, **kwargs)

    def batch_defer(self: JobDeferrer, *several: Any) -> list[int]:
        return [defer(self, **kwargs) for kwargs in several]

    async def batch_defer_async(self: JobDeferrer, *several: Any) -> list[int]:
        return batch_defer(self, *several)

    with ExitStack() as stack:
        stack.enter_context(patched(Task, configure=configured))
        stack.enter_context(patched(App, configure_task=task_configured))
        ways = (defer, defer_async, batch_defer, batch_defer_async)
        stack.enter_context(patched(JobDeferrer, **dict(zip(WAYS, ways, strict=True))))
        yield


@contextmanager
def watch(note: Callable[[], None]) -> Iterator[None]:
    """Note all dispatches."""
    with noted(note, JobDeferrer, *WAYS):
        yield


def _runner(app: Any, task: Any, job: Any) -> Callable[[], Any]:
    function = async_to_sync(task.func) if iscoroutinefunction(task.func) else task.func

    def run() -> Any:
        if not task.pass_context:
            return function(**job.task_kwargs)
        context = JobContext(
            app=app, job=job, start_timestamp=time.time(), abort_reason=lambda: None
        )
        return function(context, **job.task_kwargs)

    return run


def _unknown() -> None:
    """Do nothing: the task is one of another project."""


LIBRARY = Library(intercept=intercept, watch=watch)
