"""Tasks for faults that the chores of the process tests do not meet."""

from datetime import timedelta
from typing import Any

from aftercommit import task
from tests.app.chores import leave_effect


@task(takes_context=True, atomic=True, max_attempts=2, backoff=timedelta(milliseconds=5))
def unsteady(context: Any, key: str) -> str:
    """Fail once, after the effect; then succeed."""
    leave_effect(context, key)
    if context.attempt == 1:
        raise ValueError(key)
    return key
