"""Jobs that were claimed and cannot be run here: this process lacks their task or backend."""

import logging
from collections.abc import Sequence
from datetime import timedelta

from django.db import Error

from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.undeclared import newer
from aftercommit.store.base import Store
from aftercommit.values import NO_TIME, Claim, Released
from aftercommit.worker.leases import Leases

logger = logging.getLogger("aftercommit")

LEFT_FOR = timedelta(seconds=10)  # delay of a job that this process cannot run


class Misfits:
    """Knows which tasks were missing, so that their jobs are claimed once and not again."""

    def __init__(self, store: Store, leases: Leases) -> None:
        self._store = store
        self._leases = leases
        self.unknown: set[str] = set()  # paths of tasks that this process does not have

    def release(self, claims: Sequence[Claim]) -> None:
        """Release jobs that this process cannot run, so that another worker may claim them."""
        met = {claim.task_path for claim in claims} - self.unknown
        versions = newer(met)
        for what in versions.values():
            logger.warning(
                "Calls of %s are queued; they stay ready for a worker that has this version. "
                "This worker goes on with those of its own version.",
                what,
            )
        for path in sorted(met - versions.keys()):
            logger.warning(
                "This worker does not have the task %s or its backend; the jobs stay ready for a "
                "worker that has both. Is the task's module in an installed app, or listed in "
                "OPTIONS['task_modules'] or below OPTIONS['task_packages']? Does TASKS have the "
                "backend?",
                path,
            )
        self.unknown |= {
            claim.task_path for claim in claims if known_task(claim.task_path) is None
        }
        # A job of an unknown task keeps its place. One on an unknown backend would come at once.
        delays = [NO_TIME if one.task_path in self.unknown else LEFT_FOR for one in claims]
        try:
            released = list(zip(claims, map(Released, delays), strict=True))
            send_finished(self._store, self._store.finish_many(released))
            for claim in claims:
                self._leases.confirmed(claim)
        except Error:
            logger.warning(
                "Jobs that this worker cannot run could not be released; they are rescued "
                "when their leases end"
            )
