"""Tasks that run many jobs in one call, for tests that do harm to workers meanwhile."""

import os
from datetime import timedelta

from aftercommit import BatchCall, task
from tests.app.chores import OFTEN, SOON, work
from tests.app.models import Effect
from tests.app.notes import note

SIZE = 20
WAIT = timedelta(milliseconds=200)


def chore(key: str, lasting: float = 0, gate: str = "") -> None:
    """Take what a call takes."""


def leave_effects(calls: list[BatchCall]) -> None:
    """Leave a row for each job by one statement, then work as long as the longest of them."""
    for call in calls:
        note("begin", key=call.args[0], job=call.job_id)
    Effect.objects.bulk_create(
        [Effect(key=call.args[0], job_id=call.job_id, value=os.getpid()) for call in calls]
    )
    note("batch", jobs=[call.job_id for call in calls])
    gates = {call.kwargs.get("gate", "") for call in calls} - {""}
    work(max(call.kwargs.get("lasting", 0) for call in calls), min(gates, default=""))
    for call in calls:
        note("end", key=call.args[0], job=call.job_id)


@task(batch_size=SIZE, batch_wait=WAIT, signature=chore, max_attempts=OFTEN, backoff=SOON)
def many(calls: list[BatchCall]) -> None:
    """Leave effects in autocommit."""
    leave_effects(calls)


@task(
    batch_size=SIZE,
    batch_wait=WAIT,
    signature=chore,
    atomic=True,
    max_attempts=OFTEN,
    backoff=SOON,
)
def many_atomic(calls: list[BatchCall]) -> None:
    """Leave effects in the transaction of the completions."""
    leave_effects(calls)
