"""A task whose jobs wait for each other, for worker processes that the tests kill."""

from typing import Any

from aftercommit import task
from tests.app.chores import OFTEN, SOON, leave_effect, run_of
from tests.app.models import Effect


@task(takes_context=True, atomic=True, max_attempts=OFTEN, backoff=SOON / 10)
def step(context: Any, number: int, before: list[int], results: list[int]) -> int:
    """Leave one row, after those of the steps before; some fail at first."""
    with run_of(context, str(number)):
        if number % 50 == 7 and context.attempt == 1:
            raise ValueError("at first")
        rows = Effect.objects.filter(key__in=[f"step:{one}" for one in before])
        assert rows.count() == len(before), "a step before this one has not left its row"
        assert results == before, "these are not the results of the steps before"
        leave_effect(context, f"step:{number}")
    return number
