"""Renews the leases of this process's runs, and notices which claims are lost."""

from datetime import timedelta

from aftercommit.enqueue.outcomes import Cancel
from aftercommit.errors import ClaimLost
from aftercommit.store.base import Store
from aftercommit.worker.leases import Leases
from aftercommit.worker.runs import Runs, now


class Heartbeat:
    """Renews the leases of one database alias, all by one statement, and deletes the ended."""

    def __init__(
        self,
        store: Store,
        runs: Runs,
        leases: Leases,
        *,
        lease: timedelta,
        heartbeat: timedelta,
    ) -> None:
        self._store = store
        self._runs = runs
        self._leases = leases
        self._lease = lease
        self._heartbeat = heartbeat

    def step(self) -> timedelta:
        """Renew once; return when to renew again."""
        self.end_leases()
        runs = [run for run in self._runs.all() if not run.lost]
        if not runs:
            return self._heartbeat
        began = now()
        held = self._store.renew([run.claim for run in runs], lease=self._lease)
        for run in runs:
            if run.claim.job_id not in held:
                run.lost = True
                run.interrupt(ClaimLost)
            else:
                run.renewed_at = began
                if held[run.claim.job_id]:
                    run.cancel_requested = True
                    run.interrupt(Cancel)
        return self._heartbeat

    def end_leases(self) -> None:
        """Delete the leases that no claim has deleted: there are no more claims at the end."""
        if ended := self._leases.ended:
            self._store.end_leases(ended)
            self._leases.deleted(ended)
