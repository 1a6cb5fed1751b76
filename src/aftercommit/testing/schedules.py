"""What a worker would have written into the table of schedules before the test."""

from collections.abc import Iterable

from aftercommit.enqueue.called import load_tasks
from aftercommit.schedules.declared import check_in, declared_in
from aftercommit.store import store_for


def know_schedules(aliases: Iterable[str]) -> None:
    """Write the schedules that the code declares, with their next moment."""
    load_tasks()
    for alias in aliases:
        if mine := declared_in(alias):
            check_in(store_for(alias), mine, ends_others=False)
