"""Tasks under limits, for worker processes that the tests harm."""

import os
from typing import Any

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of, work

# A worker that is started later may have another limit than those before, as after a new version.
SEVERAL_VARIABLE = "AFTERCOMMIT_TESTS_SEVERAL"
SEVERAL = int(os.environ.get(SEVERAL_VARIABLE, "3"))


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


NARROW = 4  # what the queue of these two lets through at once; see the settings of their tests
FEWER = 2


@task(takes_context=True, queue_name="narrow", max_attempts=OFTEN, backoff=SOON)
def in_a_queue(context: Any, number: int, lasting: float = 0) -> None:
    """Work in a queue that has a limit; some fail at first."""
    with run_of(context, f"queue:{number}"):
        if number % 9 == 4 and context.attempt == 1:
            raise ValueError("at first")
        work(lasting, "")


@task(takes_context=True, queue_name="narrow", limit=FEWER, max_attempts=OFTEN, backoff=SOON)
def fewer_in_a_queue(context: Any, number: int, lasting: float = 0) -> None:
    """Work in that queue, under a limit of the task as well."""
    with run_of(context, f"fewer:{number}"):
        work(lasting, "")
