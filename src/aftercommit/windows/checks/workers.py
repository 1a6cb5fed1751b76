"""A check of the table for ``check --deploy``: whether anybody runs the jobs."""

from datetime import timedelta
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from aftercommit.enqueue.configured import our_backends
from aftercommit.wording import spoken

LONG = timedelta(minutes=1)  # that a job has been due: a first deploy may begin with the web


def check_workers(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of jobs that are due where no worker ever was; nothing if a database is silent."""
    found: list[CheckMessage] = []
    for alias, store in {one.using: one.store for one in our_backends()}.items():
        try:
            age = store.oldest_due_age()
            if age is not None and age >= LONG and not store.was_ever_served():
                found.append(_warning(alias, age))
        except Error:
            continue
    return found


def _warning(alias: str, age: timedelta) -> CheckMessage:
    return Warning(
        f"Jobs have been due in database {alias!r} for {spoken(age)}, and no worker was ever "
        "seen there: nothing runs what this project enqueues.",
        hint="Start one beside the web server, with the same settings: manage.py aftercommit "
        "worker.",
        id="aftercommit.W021",
    )
