"""Tasks whose tenants take turns, for worker processes that the tests harm."""

from typing import Any

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of, work

AT_ONCE = 2


@task(takes_context=True, atomic=True, fair_by=("tenant",), max_attempts=OFTEN, backoff=SOON / 10)
def in_turn(context: Any, tenant: int, number: int, lasting: float = 0) -> None:
    """Leave a row; some fail at first, and join their line again."""
    with run_of(context, f"turn:{tenant}:{number}"):
        if number % 7 == 3 and context.attempt == 1:
            raise ValueError("at first")
        work(lasting, "")
        leave_effect(context, f"turn:{tenant}:{number}")


@task(
    takes_context=True,
    fair_by=("tenant",),
    limit=AT_ONCE,
    limit_by=("tenant",),
    max_attempts=OFTEN,
    backoff=SOON,
)
def few_in_turn(context: Any, tenant: int, number: int, lasting: float = 0) -> None:
    """Work, beside another one of the tenant."""
    with run_of(context, f"{tenant}:{number}"):
        work(lasting, "")
