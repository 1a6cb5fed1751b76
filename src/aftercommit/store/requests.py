"""Requests to stop: whether somebody has cancelled a job while it runs."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from aftercommit.models import State
from aftercommit.store.table import Table
from aftercommit.values import Claim

ONE_LOOK = 500  # rows that one statement names


class Requests(Table):
    """The word of a running job's ``cancel()`` to its worker."""

    def asked_to_stop(self, claims: Sequence[Claim]) -> set[UUID]:
        """Return those of the claimed jobs whose cancellation was requested.

        Reads the rows by their ids, and neither locks nor waits.
        """
        tokens = {claim.job_id: claim.token for claim in claims}
        wanted = list(tokens)
        asked: set[UUID] = set()
        for start in range(0, len(wanted), ONE_LOOK):
            some = wanted[start : start + ONE_LOOK]
            running = self._jobs.filter(id__in=some, state=State.RUNNING, cancel_requested=True)
            found = running.values_list("id", "token")
            asked |= {job_id for job_id, token in found if token == tokens[job_id]}
        return asked

    def _tell(self, worker_ids: Iterable[UUID | None]) -> None:
        """Notify workers of requests, where the database can; elsewhere they look for them."""
