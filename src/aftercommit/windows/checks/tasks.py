"""A check of the table for ``check --deploy``: whether the tasks of waiting jobs are declared."""

from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.undeclared import undeclared

MOST_NAMED = 10


def check_queued_names(**_kwargs: Any) -> list[CheckMessage]:
    """Warn of jobs whose task nobody declares; a database that does not answer says nothing."""
    backends = our_backends()
    modules = [one for backend in backends for one in backend.config.task_modules]
    found: list[CheckMessage] = []
    for alias in dict.fromkeys(backend.using for backend in backends):
        store = next(backend.store for backend in backends if backend.using == alias)
        try:
            unknown = undeclared(store.queued_names(), modules)
        except Error:
            continue
        if unknown:
            found.append(_warning(alias, unknown))
    return found


def _warning(alias: str, unknown: list[str]) -> CheckMessage:
    names = ", ".join(map(repr, unknown[:MOST_NAMED]))
    more = "" if len(unknown) <= MOST_NAMED else f" and {len(unknown) - MOST_NAMED} more"
    return Warning(
        f"Jobs wait in database {alias!r} for tasks that nothing here declares: {names}{more}. "
        "They stay where they are until a worker knows the task.",
        hint="If a function was moved or renamed, give its task the old path in aliases=(...). "
        "Otherwise cancel the jobs.",
        id="aftercommit.W015",
    )
