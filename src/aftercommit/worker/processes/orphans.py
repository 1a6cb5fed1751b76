"""What a dead worker process leaves behind: jobs that it ran, and jobs that it had claimed."""

import logging
from collections.abc import Collection, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import Error, connections

from aftercommit.enqueue.finished import send_finished, send_rescued
from aftercommit.store import store_for
from aftercommit.values import NO_TIME
from aftercommit.worker.config import Served
from aftercommit.worker.processes.aside import Aside
from aftercommit.worker.processes.channel import Channel
from aftercommit.worker.processes.launch import Child
from aftercommit.worker.runs import now

logger = logging.getLogger("aftercommit")

# If all processes of this worker are being killed, this one is as well, and blames nobody.
UNTIL_JUDGED = timedelta(milliseconds=300)
TO_SETTLE = timedelta(seconds=2)
TRIES = 5  # the database may take a moment to roll back what the process had open


class Orphans:
    """Takes them back at once; called by the parent of the dead process.

    Those that had not begun are released without a crash. Those that had begun count one,
    and a job that was alone there is blamed for the death, unless that came from outside.
    If the database is away meanwhile, or the parent dies as well, other workers rescue all
    of them, and blame none.
    """

    def __init__(self, aliases: Sequence[Served], *, may_fork: bool = False) -> None:
        self._aliases = aliases
        self._may_fork = may_fork
        self._begun: list[Aside] = []

    def __call__(self, child: Child) -> Aside | None:
        """See to the jobs of a process that did not end in good order; return at once."""
        worker_id, begun = child.board.read()
        if worker_id is None:
            return None
        death = child.own_death
        blamed = dict.fromkeys(begun, death) if len(begun) == 1 and death is not None else {}
        aside = Aside(
            lambda over: self._take_back(over, worker_id, begun, blamed),
            name="orphans",
            may_fork=self._may_fork,
        )
        self._begun = [one for one in self._begun if not one.ended_within(NO_TIME)] + [aside]
        return aside

    def settle(self) -> None:
        """Wait a moment for what has been begun, before this process ends."""
        end = now() + TO_SETTLE.total_seconds()
        for aside in self._begun:
            aside.ended_within(timedelta(seconds=max(end - now(), 0)))
            aside.end(NO_TIME)

    def left(self, worker_ids: Collection[UUID]) -> dict[str, int]:
        """Return by database how many jobs these workers, which have ended, still hold there."""
        found = {one.using: store_for(one.using).held_by(worker_ids) for one in self._aliases}
        return {using: number for using, number in found.items() if number}

    def _take_back(
        self, over: Channel, worker_id: UUID, begun: set[UUID], blamed: dict[UUID, str]
    ) -> None:
        left = set(begun)
        for number in range(TRIES):
            if over.closed_within(UNTIL_JUDGED):
                break  # the parent has ended: it was perhaps killed as well
            for served in self._aliases:
                store = store_for(served.using)
                try:
                    if number == 0:
                        send_finished(store, store.release_unstarted(worker_id, begun=begun))
                    left -= _rescued(served, worker_id, blamed)
                except Error:
                    logger.warning(
                        "Database %r does not answer: other workers rescue the jobs of a dead "
                        "process",
                        served.using,
                    )
            if not left:
                break
        connections.close_all()


def _rescued(served: Served, worker_id: UUID, blamed: dict[UUID, str]) -> set[UUID]:
    """Rescue what has begun there; return which jobs that were."""
    store = store_for(served.using)
    rescued = store.rescue(
        max_crashes=served.options.max_crashes,
        dead_workers={worker_id},
        silent=False,
        blamed=blamed,
    )
    for one in rescued:
        send_rescued(store, one)
    return {one.job_id for one in rescued}
