"""A table that is filled once for all tests of a file, which undo what they write."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

from aftercommit.models import Job
from tests.store.test_plans import STATISTICS, run


@contextmanager
def filled(blocker: Any, jobs: list[Job]) -> Iterator[None]:
    """Insert jobs and let the planner know; delete them at the end."""
    with blocker.unblock():
        with transaction.atomic():
            Job.objects.bulk_create(jobs, batch_size=1000)
        run(STATISTICS[connection.vendor])
        connection.close()
    yield
    with blocker.unblock():
        run("DELETE FROM aftercommit_job")
        connection.close()
