"""A task that leaks descriptors."""

import os

from aftercommit import task
from tests.app.notes import note

leaked: list[int] = []


@task(takes_context=True, max_attempts=5)
def leak(context, key: str, number: int) -> str:
    """Open so many and close none."""
    note("leak", key=key, job=context.job_id)
    leaked.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(number))
    return key
