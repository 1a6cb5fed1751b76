"""Renews the leases of this process's runs, and notices which claims are lost."""

from datetime import timedelta

from aftercommit.enqueue.finished import send_finished
from aftercommit.store.base import Store
from aftercommit.worker.held import Runs
from aftercommit.worker.leases import Leases
from aftercommit.worker.runs import now

PUT_OFF = timedelta(seconds=5)  # a forgotten job


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
        self._renew()  # first: nothing that fails below may cost the leases
        self._release_forgotten()
        self.end_leases()
        return self._heartbeat

    def _renew(self) -> None:
        runs = [run for run in self._runs.all() if not run.lost]
        if not runs:
            return
        began = now()
        held, extended = self._store.renew([run.claim for run in runs], lease=self._lease)
        for run in runs:
            if run.claim.job_id not in held:
                run.lose()
            else:
                if run.claim.lease_id in extended:
                    run.renewed_at = began
                if held[run.claim.job_id]:
                    run.ask_to_stop()

    def _release_forgotten(self) -> None:
        """Release jobs that this process has claimed, but neither runs nor has ended.

        The release of such a job has failed. Its lease is renewed as long as another job of
        the same claim runs, so no other worker would rescue it meanwhile.
        """
        runs = self._runs.all()
        held = {run.claim.job_id: run.claim.token for run in runs if not run.lost}
        forgotten = [
            claim
            for claim in self._leases.unconfirmed(since=now() - self._lease.total_seconds())
            if held.get(claim.job_id) != claim.token
        ]
        if not forgotten:
            return
        send_finished(self._store, self._store.release_forgotten(forgotten, PUT_OFF))
        in_body = {run.claim for run in runs if run.in_body}
        running = self._store.running_under({one.job_id: one.token for one in forgotten})
        for claim in forgotten:
            if claim.job_id not in running:
                self._leases.confirmed(claim)
                if claim not in in_body:  # else its timeout still has to be seen to
                    self._runs.remove(claim)

    def end_leases(self) -> None:
        """Delete the leases that no claim has deleted: there are no more claims at the end."""
        if ended := self._leases.ended:
            self._store.end_leases(ended)
            self._leases.deleted(ended)
