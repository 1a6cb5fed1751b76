"""Tasks with a rate, for worker processes that the tests harm."""

from typing import Any

from aftercommit import task
from aftercommit.models import Job
from tests.app.chores import OFTEN, SOON, run_of, work
from tests.app.models import Effect

PER_SECOND, BURST = 25, 3


@task(
    takes_context=True,
    rate=f"{PER_SECOND}/s",
    rate_by=("account",),
    burst=BURST,
    max_attempts=OFTEN,
    backoff=SOON,
)
def now_and_then(context: Any, account: int, number: int, lasting: float = 0) -> None:
    """Leave a row that says when this run was claimed, by the database's clock."""
    with run_of(context, f"{account}:{number}"):
        claimed_at = Job.objects.get(id=context.job_id).claimed_at
        Effect.objects.create(key=f"rate:{account}", value=claimed_at.isoformat())
        work(lasting, "")
