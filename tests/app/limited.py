"""Tasks under limits, for worker processes that the tests harm."""

from typing import Any

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of, work

SEVERAL = 3


@task(takes_context=True, limit=SEVERAL, limit_by=("account",), max_attempts=OFTEN, backoff=SOON)
def some_at_once(context: Any, account: int, number: int, lasting: float = 0) -> None:
    """Work, beside two others of the account."""
    with run_of(context, f"{account}:{number}"):
        work(lasting, "")


@task(
    takes_context=True,
    atomic=True,
    limit=1,
    limit_by=("account",),
    ordered=True,
    max_attempts=OFTEN,
    backoff=SOON / 10,
)
def one_by_one(context: Any, account: int, number: int, lasting: float = 0) -> None:
    """Leave a row that says which number it was; some fail at first."""
    with run_of(context, f"line:{account}:{number}"):
        if number % 7 == 3 and context.attempt == 1:
            raise ValueError("at first")
        work(lasting, "")
        leave_effect(context, f"line:{account}:{number}")
