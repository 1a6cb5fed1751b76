"""Jobs with encrypted arguments: which there are, and the exchange of their texts."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL

from aftercommit.models import Dependency, Job, State
from aftercommit.store.table import Table
from aftercommit.stored import SECRETS, loaded_secrets

MOST_LOOKED_AT = 10_000  # waiting jobs, of each kind
AT_A_TIME = 500
BY_ID = RawSQL("aftercommit_job.id", ())  # as in ``pruning``
HAS_SECRETS = Q(payload__contains=f'"{SECRETS}":"')


class SealedJobs(Table):
    """Reads and exchanges encrypted arguments; their keys are not known here."""

    def waiting_secrets(self) -> list[tuple[str, str]]:
        """Return the backends and encrypted texts of waiting jobs, of some of them."""
        ids = [job_id for rows in self._ids_of_waiting() for job_id in rows[:MOST_LOOKED_AT]]
        ids = list(dict.fromkeys(ids))
        found: list[tuple[str, str]] = []
        for first in range(0, len(ids), AT_A_TIME):
            some = self._with_secrets().filter(
                state=State.READY, id__in=ids[first : first + AT_A_TIME]
            )
            rows = some.values_list("backend", "payload")
            found += [(backend, str(loaded_secrets(payload))) for backend, payload in rows]
        return found

    def _ids_of_waiting(self) -> Iterator[QuerySet[Any, Any]]:
        """Return ids of jobs that wait: for a thread, for a slot or others, for a pause.

        Each by its index: none has all ready jobs.
        """
        ids = self._jobs.order_by().values_list("id", flat=True)
        yield ids.filter(claimable=True)
        yield ids.filter(state=State.READY, blocked__isnull=False)
        set_aside = Dependency.objects.using(self.alias).filter(outcome__isnull=True)
        yield set_aside.order_by().values_list("job_id", flat=True)

    def jobs_with_secrets(self, *, after: UUID, limit: int) -> list[Job]:
        """Return jobs that may run again and have secrets, in the order of their ids."""
        rows = self._with_secrets().filter(id__gt=after).exclude(state=State.SUCCEEDED)
        return list(rows.order_by(BY_ID).only("id", "backend", "payload")[:limit])

    def exchange_payload(self, job_id: UUID, *, before: str, after: str) -> bool:
        """Give a job another text of its arguments; False if it has another one by now."""
        with self._write():
            rows = self._locked(self._jobs.filter(id=job_id))
            if list(rows.values_list("payload", flat=True)) != [before]:
                return False
            return bool(self._jobs.filter(id=job_id).update(payload=after))

    def _with_secrets(self) -> QuerySet[Job]:
        return self._jobs.filter(HAS_SECRETS)
