"""The claiming of a worker process around a test's thread."""

from typing import Any
from uuid import uuid4

from aftercommit.models import Job
from aftercommit.options.conf import BackendOptions
from aftercommit.store.base import Store
from aftercommit.worker.claiming.fetcher import Fetcher
from aftercommit.worker.config import Served
from aftercommit.worker.crashed import CrashedJobs
from aftercommit.worker.facts import Catalogue
from aftercommit.worker.leases import Leases
from aftercommit.worker.rules import RulesInForce
from tests.app.tasks import add
from tests.worker.rig import LEASE


class Room:
    """The claiming of a worker process, as ``assemble()`` wires it."""

    def __init__(self, store: Store, **given: Any) -> None:
        served = Served(
            **{
                "using": store.alias,
                "queues": None,
                "backends": (),
                "options": BackendOptions(lease=LEASE),
                "relays": False,
                **given,
            }
        )
        self.rules = RulesInForce(store, served.queue_limits, served.queue_rates)
        self.crashed = CrashedJobs(store, served, self.rules)
        self.fetcher = Fetcher(
            store,
            served,
            self.crashed,
            Leases(),
            self.rules,
            worker_id=uuid4(),
            facts_of=Catalogue(lambda _facts: None).facts_of,
        )

    def fetch(self, limit: int = 100) -> list[str]:
        """Return the queues of the jobs that it claims now."""
        return sorted(claim.queue for claim, _facts in self.fetcher.fetch(limit=limit))


def enqueue(queue: str, number: int = 1, **columns: object) -> None:
    """Enqueue so many jobs that are due."""
    for _number in range(number):
        job_id = add.using(queue_name=queue).enqueue(1, 2).id
        Job.objects.filter(id=job_id).update(**columns)
