"""Stands in for Django's Dummy and Immediate backends in Django's own tests of ``django.tasks``.

Those two remember or run what is enqueued; ours keeps it in the database, and a worker runs it.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any
from unittest import mock

from django.db import connections

from aftercommit import DatabaseBackend
from aftercommit.models import Job
from aftercommit.worker.inline import InlineWorker


class DummyBackend(DatabaseBackend):
    """Ours, with what Django's tests know of the dummy backend."""

    @property
    def results(self) -> list[Any]:
        """Return the result of every job of this backend, the oldest first.

        Tests ask for it inside an event loop, too, where Django forbids to ask the database.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._read()
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self._read, then=connections.close_all).result()

    def _read(self, then: Callable[[], object] = list) -> list[Any]:
        jobs = Job.objects.using(self.using).filter(backend=self.alias).order_by("id")
        try:
            return [self.get_result(job_id) for job_id in jobs.values_list("id", flat=True)]
        finally:
            then()

    def clear(self) -> None:
        """Forget them."""
        Job.objects.using(self.using).all().delete()


class ImmediateBackend(DatabaseBackend):
    """Ours, and a worker in the same thread runs each job before ``enqueue`` returns."""

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self.config = replace(self.config, max_attempts=1)

    def enqueue(self, task, args, kwargs):
        """Enqueue the job, run it, and return its result."""
        result = super().enqueue(task, args, kwargs)
        # Not of all of TASKS: the tests have a backend there that does not exist.
        with (
            mock.patch("aftercommit.worker.config.our_backends", lambda: [self]),
            mock.patch("aftercommit.enqueue.retention.our_backends", lambda: [self]),
        ):
            InlineWorker().run()
        result.refresh()
        return result
