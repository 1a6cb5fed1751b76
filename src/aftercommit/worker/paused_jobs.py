"""What a worker that ends when nothing is due has left, because it is paused."""

from collections.abc import Iterable
from typing import NamedTuple

from aftercommit.enqueue.versions import versions_of
from aftercommit.store import store_for
from aftercommit.store.base import Store
from aftercommit.values import TASK, Pause
from aftercommit.worker.config import Served


class PausedJobs(NamedTuple):
    """The due jobs that a pause keeps from running."""

    using: str
    pause: Pause
    number: int

    def __str__(self) -> str:
        jobs = "job was" if self.number == 1 else "jobs were"
        return (
            f"{self.number:,} due {jobs} left in database {self.using!r}: {self.pause.what} "
            f"is paused {self.pause.details}."
        )


def paused_jobs(aliases: Iterable[Served]) -> list[PausedJobs]:
    """Return what is due and paused, of what these workers serve."""
    found: list[PausedJobs] = []
    for served in aliases:
        store = store_for(served.using)
        for pause in sorted(store.pauses()):
            if number := _number(store, served, pause):
                found.append(PausedJobs(served.using, pause, number))
    return found


def _number(store: Store, served: Served, pause: Pause) -> int:
    if pause.kind == TASK:
        due = sum(map(store.due_of, versions_of(pause.name)))
        return store.set_aside_of(pause.name) + due
    if not served.serves(pause.name):
        return 0
    return store.due_in(pause.name, backends=served.known_backends)
