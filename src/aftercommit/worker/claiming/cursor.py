"""The claim cursor: where in a queue the next claim begins."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from aftercommit.values import Claim, Position

FROM_FRONT = timedelta(milliseconds=100)  # between claims from the front, if these are quick
SHARE = 0.1  # of the time, that slow claims from the front take at most


class ClaimCursor:
    """Remembers where the last full batch of one queue ended; the next claim begins there.

    PostgreSQL's index keeps the entry of a claimed job until no open transaction can see the
    job as ready, and a claim from the front of the queue steps over all these entries. While
    one transaction stays open for minutes, these are the entries of all jobs that were done
    in those minutes. A claim from the cursor does not read them. (With 400,000 jobs and an
    open transaction the cursor raises 18,860 jobs a second to 32,220; up to 100,000 jobs it
    makes no difference: ``python -m benchmarks.run --workloads held``.)

    Jobs in front of the cursor (urgent, retried, committed late) are claimed from the front:
    several times a second, and whenever too few jobs were found behind the cursor.
    """

    def __init__(self) -> None:
        self.limited = False  # the jobs in front are under limits, as the last one claimed
        self._position: Position | None = None
        self._from_front_at = float("-inf")
        self._took = 0.0  # seconds, from the front

    @property
    def position(self) -> Position | None:
        """Where the next claim begins; None: at the front of the queue."""
        pause = max(FROM_FRONT.total_seconds(), self._took / SHARE)
        over = time.monotonic() - self._from_front_at > pause
        return None if over or self.limited else self._position

    def looked_from_front(self, *, seconds: float) -> None:
        """Note that a claim began at the front, and how long it took."""
        self._from_front_at = time.monotonic()
        self._took = seconds

    def claimed(
        self, claims: Sequence[Claim], *, groups: Sequence[tuple[str, int]], full: bool
    ) -> None:
        """Note the last batch; if it was not full, the claim has reached the end of the queue.

        ``groups``: backends and priorities in the order in which the claim has walked them.
        """
        walked = {group: number for number, group in enumerate(groups)}

        def place(claim: Claim) -> tuple[int, datetime, int]:
            number = walked.get((claim.backend, claim.priority), len(walked))
            return number, claim.run_after, claim.job_id.int

        self._position = None
        if claims:
            self.limited = claims[-1].limit_key is not None
        if full and claims:
            last = max(claims, key=place)
            self._position = Position(last.backend, last.priority, last.run_after, last.job_id)
