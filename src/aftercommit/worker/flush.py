"""Runs what is due in the calling thread: a chosen part of it, and then ends."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from aftercommit.conf import WorkerConfig
from aftercommit.errors import ConfigurationError
from aftercommit.values import Claim
from aftercommit.worker.desk import Desk
from aftercommit.worker.setup import Served, served

LOOK_AHEAD = 1000  # due jobs read at a time, to find those of our share


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One of several equal parts of all jobs, by their ids.

    Raises ``ConfigurationError`` unless ``1 <= which <= outof``.
    """

    which: int = 1
    outof: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.which <= self.outof:
            raise ConfigurationError(
                f"--which {self.which} --outof {self.outof}: expected 1 <= which <= outof."
            )

    def holds(self, job_id: UUID) -> bool:
        """Tell whether a job belongs to this part."""
        return job_id.int % self.outof == self.which - 1


class Flush:
    """Claims one job at a time, so that several flushes share the work evenly."""

    def __init__(self, *, share: Share, name: str = "", most: int | None = None) -> None:
        if most is not None and most < 1:
            raise ConfigurationError(f"--jobs: expected a number from 1, got {most}.")
        self._share = share
        self._name = name
        self._left = float("inf") if most is None else most
        self._worker_id = uuid4()
        self._desk: Desk | None = None
        self._stopping = False

    def run(self) -> int:
        """Run everything that is due on every backend; return how many runs that were."""
        return sum(self._run_alias(one) for one in served(WorkerConfig()))

    def stop(self) -> None:
        """End after the present job; the second time, give that back, too."""
        if self._stopping and self._desk is not None:
            self._desk.give_back()
        self._stopping = True

    def _run_alias(self, one: Served) -> int:
        count = 0
        with Desk(one, self._worker_id) as desk:
            self._desk = desk
            while self._left > 0 and not self._stopping and (claim := self._next(desk)):
                desk.run(claim)
                self._left -= 1
                count += 1
        return count

    def _next(self, desk: Desk) -> Claim | None:
        looked_at: set[UUID] = set()
        limit = LOOK_AHEAD
        while True:
            found = desk.store.due(limit=limit, name=self._name)
            for job_id in found:
                if self._share.holds(job_id) and job_id not in looked_at:
                    looked_at.add(job_id)
                    if claim := desk.claim(job_id):
                        return claim
            if len(found) < limit:
                return None
            limit *= 2  # those in front are of other shares, or of unknown tasks
