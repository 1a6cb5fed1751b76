"""The runs of this process: jobs that it has claimed and whose outcome is not written yet."""

import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

from aftercommit.values import Claim
from aftercommit.worker.runs import Owner, Run, now

if TYPE_CHECKING:
    from aftercommit.worker.facts import TaskFacts
    from aftercommit.worker.leases import Leases


class Runs:
    """The runs whose outcome is not in the table yet."""

    def __init__(self, leases: "Leases", *, lease: timedelta) -> None:
        self._leases = leases
        self._fresh_for = lease.total_seconds() * 2 / 3
        self._lock = threading.Lock()
        # By the job's id as an int, which is hashed faster than a UUID.
        self._runs: dict[int, Run] = {}

    def add(self, claim: Claim, facts: "TaskFacts", owner: Owner) -> Run:
        """Create the run of a claim; it stays here until ``remove``."""
        return self.add_all([(claim, facts)], owner)[0]

    def add_all(
        self,
        claims: Iterable[tuple[Claim, "TaskFacts"]],
        owner: Owner,
        *,
        asked_at: float | None = None,
    ) -> list[Run]:
        """Create the runs of claims that were made at the same time.

        ``asked_at``: when the claim was sent; the leases are known to be good from then on.
        """
        since = now()
        renewed_at = since if asked_at is None else asked_at
        runs = [
            Run(
                claim,
                facts,
                owner,
                fresh_for=self._fresh_for,
                held_since=since,
                renewed_at=renewed_at,
            )
            for claim, facts in claims
        ]
        with self._lock:
            before = [self._runs.get(run.claim.job_id.int) for run in runs]
            for run in runs:
                self._runs[run.claim.job_id.int] = run
        for old in filter(None, before):  # its claim was lost, or the job was not claimed again
            self._leases.confirmed(old.claim)
        return runs

    def remove(self, claim: Claim) -> None:
        """Remove the run of a claim that has ended, as the database has confirmed.

        The run of a later claim on the same job stays.
        """
        self.remove_all([claim])

    def remove_all(self, claims: Iterable[Claim]) -> None:
        """Remove the runs of these claims; see ``remove``."""
        ended: list[Claim] = []
        with self._lock:
            for claim in claims:
                number = claim.job_id.int
                run = self._runs.get(number)
                if run is not None and run.claim.token == claim.token:
                    del self._runs[number]
                    ended.append(claim)
        self._leases.confirmed_all(ended)

    def all(self) -> list[Run]:
        """Return the runs as they are now."""
        with self._lock:
            return list(self._runs.values())

    def __len__(self) -> int:
        return len(self._runs)
