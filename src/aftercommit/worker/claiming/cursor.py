"""Where in a queue the next claim begins."""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta

from aftercommit.values import Claim, Position

FROM_FRONT = timedelta(milliseconds=100)  # how often at least, if that is quick
SHARE = 0.1  # of the time, at most, that claims from the front may take


class ClaimCursor:
    """Remembers where the last full batch of one queue has ended; the next begins behind it.

    PostgreSQL's index keeps an entry for each job that was claimed until no open transaction
    can see it as ready, and a claim from the front steps over all of them: with one
    transaction open for minutes, over all jobs that were done in those minutes. A claim
    from the cursor does not. (At 400,000 jobs beside an open transaction it makes 18,860
    jobs a second 32,220; up to 100,000 it makes no difference: ``python -m benchmarks.run
    --workloads held``.)

    Jobs in front of the cursor (urgent, retried, committed late) are found from the front:
    several times a second, and whenever there were too few behind the cursor.
    """

    def __init__(self) -> None:
        self._position: Position | None = None
        self._from_front_at = float("-inf")
        self._took = 0.0  # seconds, from the front

    @property
    def position(self) -> Position | None:
        """Where to begin; None: at the front."""
        pause = max(FROM_FRONT.total_seconds(), self._took / SHARE)
        over = time.monotonic() - self._from_front_at > pause
        return None if over else self._position

    def looked_from_front(self, *, seconds: float) -> None:
        """Note that nothing was left out, and how long it took."""
        self._from_front_at = time.monotonic()
        self._took = seconds

    def claimed(self, claims: Sequence[Claim], *, full: bool) -> None:
        """Note what the last batch was; one that was not full has seen the end of the queue."""
        self._position = None
        if full and claims:
            last = max(claims, key=_order)
            self._position = Position(last.priority, last.run_after, last.job_id)


def _order(claim: Claim) -> tuple[int, datetime, int]:
    return -claim.priority, claim.run_after, claim.job_id.int
