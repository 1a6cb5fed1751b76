"""A selection of jobs: what meets some criteria, whenever it is asked."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from uuid import UUID

from aftercommit.enqueue.configured import accepts_queue, declared_queues
from aftercommit.enqueue.finished import send_finished
from aftercommit.enqueue.limits import limit_of
from aftercommit.enqueue.retention import retention_of
from aftercommit.errors import BadSelection
from aftercommit.jobs import asked
from aftercommit.jobs.deleting import Deleting
from aftercommit.store import store_for
from aftercommit.store.criteria import Criteria

if TYPE_CHECKING:
    from aftercommit.models import Job
    from aftercommit.store.base import Store
    from aftercommit.store.operations import Retried

logger = logging.getLogger("aftercommit")

LIVE = ("ready", "running")
UNSUCCESSFUL = ("failed", "cancelled")
FINISHED = ("succeeded", *UNSUCCESSFUL)
NOT_STARTED = ("ready", *UNSUCCESSFUL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far an operation has come, in jobs; it is committed up to here."""

    found: int = 0  # met the criteria when they were found
    changed: int = 0
    asked: int = 0  # of those: running jobs that are asked to stop
    clashed: int = 0  # left as they are: another job has their unique key
    unmet: int = 0  # the same: a job that they need has not succeeded
    refused: int = 0  # the same: their archive has raised
    latest: frozenset[UUID] = frozenset()  # changed by the latest batch of retry() or cancel()
    position: UUID | None = None  # of the last one that was found; see ``find(after=...)``

    @property
    def left(self) -> int:
        """Those that were left as they are: they are so already, or somebody was faster."""
        return self.found - self.changed


Watcher = Callable[[Progress], object]


class Selection:
    """The jobs of one database alias that meet the criteria. Nothing is remembered.

    Each operation works in batches of 500 jobs, in the order of their ids. A batch is one
    short transaction, whose statements repeat the criteria; ``progress`` is called after its
    commit. What it raises ends the operation, whose batches before it stay as they are. To go
    on later, call the operation again: what is changed does not meet it any more. In a
    transaction of the caller all batches are part of it.
    """

    def __init__(self, criteria: Criteria, *, using: str, after: UUID | None = None) -> None:
        self._criteria = criteria
        self._using = using
        self._after = after

    def __repr__(self) -> str:
        return f"<Selection on {self._using!r}: {self._criteria}>"

    def count(self) -> int:
        """Return how many jobs there are now. It reads all of them, in several statements."""
        return self._store.count(self._criteria, after=self._after)

    def exists(self) -> bool:
        """Return whether there is one now; reads until it has found one."""
        return self._store.exists(self._criteria, after=self._after)

    def __iter__(self) -> Iterator["Job"]:
        """Yield the jobs as they are, the oldest ids first; change none of them yourself."""
        others = self._criteria.of_any_id()
        for job_ids in self._store.find(self._criteria, after=self._after):
            yield from self._store.jobs_among(job_ids, others)

    def retry(self, *, progress: Watcher | None = None) -> Progress:
        """Make the failed and cancelled jobs ready again, with all their attempts.

        One that has waited for a job that did not succeed waits for it again if that one is
        retried before, or by this call. If not, it stays as it is, and is counted as ``unmet``.
        """
        unmet: set[UUID] = set()

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            done = self._store.retry_among(job_ids, wanted)
            unmet.update(done.unmet)
            return _retried(done)

        done = self._each("retry", UNSUCCESSFUL, write, progress)
        if len(unmet) in {0, done.found}:
            return done
        # What they need may have been in a later batch.
        again = _retried(self._store.retry_among(sorted(unmet), self._criteria.of_any_id()))
        done = replace(
            done,
            changed=done.changed + again.changed,
            clashed=done.clashed + again.clashed,
            unmet=again.unmet,
            latest=again.latest or done.latest,
        )
        if again.changed and progress is not None:
            progress(done)
        return done

    def cancel(self, *, progress: Watcher | None = None) -> Progress:
        """Cancel the ready jobs, and ask the workers of the running ones to stop."""

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            answer = self._store.cancel_among(job_ids, wanted)
            send_finished(self._store, answer.ended)
            both = answer.cancelled | answer.requested
            return Progress(changed=len(both), asked=len(answer.requested), latest=both)

        return self._each("cancel", LIVE, write, progress)

    def delete(self, *, progress: Watcher | None = None) -> Progress:
        """Delete the finished jobs; rows of yours that point at them follow ``on_delete``."""

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            return Progress(changed=self._store.delete(job_ids, wanted))

        return self._each("delete", FINISHED, write, progress)

    def prune(self, *, progress: Watcher | None = None) -> Progress:
        """Delete the finished jobs as workers do: their backend's ``archive`` gets them before.

        A job that its archive refuses is left, and so is one that rows of yours protect. Raises
        ``ArchiveFailed`` when an archive refuses all jobs of a batch: it may be away.
        """
        deleting = Deleting(self._store, retention_of(self._using))

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            before, deleting.refused = deleting.jobs, []
            deleting.delete(self._store.finished_among(job_ids, wanted))
            changed, refused = deleting.jobs - before, deleting.refused
            if refused and not changed:
                raise refused[0]
            for error in refused:
                logger.warning("A job is not deleted: %s", error, exc_info=error.__cause__)
            return Progress(changed=changed, refused=len(refused))

        return self._each("prune", FINISHED, write, progress)

    def move(self, *, queue: str, progress: Watcher | None = None) -> Progress:
        """Put the jobs that are not running and have not succeeded into another queue.

        Jobs of tasks with ``ordered=True`` stay: see ``_in_line``. Raises ``BadSelection`` for a
        queue that is not in QUEUES where every backend has them, and that has no jobs.
        """
        self.check_target(queue)

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            in_line = self._in_line(job_ids)
            changed = self._store.move(job_ids, wanted, queue=queue, in_line=in_line)
            return Progress(changed=changed)

        return self._each("move", NOT_STARTED, write, progress)

    def check_target(self, queue: str) -> None:
        """Raise ``BadSelection`` for a queue in which nobody would look for the jobs."""
        queue, using = asked.target(queue), self._using
        if not accepts_queue(queue, using) and queue not in self._store.queues():
            known = ", ".join(sorted(declared_queues(using))) or "there is none"
            raise BadSelection("queue", f"a queue of the database {using!r} ({known})", queue)

    def reprioritise(self, priority: int, *, progress: Watcher | None = None) -> Progress:
        """Give the jobs that are not running and have not succeeded another priority.

        Jobs of tasks with ``ordered=True`` stay: see ``_in_line``.
        """
        priority = asked.priority(priority)

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            in_line = self._in_line(job_ids)
            changed = self._store.reprioritise(
                job_ids, wanted, priority=priority, in_line=in_line
            )
            return Progress(changed=changed)

        return self._each("reprioritise", NOT_STARTED, write, progress)

    def run_now(self, *, progress: Watcher | None = None) -> Progress:
        """Make the ready jobs due that are for later, or wait for their next attempt.

        Jobs of tasks with ``ordered=True`` stay: see ``_in_line``. A job that waits for something
        else as well, such as a limit or other jobs, goes on waiting for that.
        """

        def write(job_ids: Sequence[UUID], wanted: Criteria) -> Progress:
            in_line = self._in_line(job_ids)
            return Progress(changed=self._store.make_due(job_ids, wanted, in_line=in_line))

        return self._each("run_now", ("ready",), write, progress)

    def _in_line(self, job_ids: Sequence[UUID]) -> list[str]:
        """Return the tasks whose jobs run in order: all jobs of a key are in the same place.

        A task that is not known here may be one of them. Modules may be imported to find out,
        so this is no part of the transaction that locks jobs.
        """
        found = [(path, limit_of(path)) for path in self._store.limited_tasks(job_ids)]
        return [path for path, limit in found if limit is None or limit.ordered]

    def _each(
        self,
        name: str,
        states: tuple[str, ...],
        write: Callable[[Sequence[UUID], Criteria], Progress],
        watcher: Watcher | None,
    ) -> Progress:
        wanted = self._criteria.within(states)
        if not wanted.states:
            raise BadSelection("state", f"one of {', '.join(states)} for {name}()", self._states)
        done = Progress()
        for job_ids in self._store.find(wanted, after=self._after):
            written = write(job_ids, wanted.of_any_id())
            done = replace(
                done,
                found=done.found + len(job_ids),
                changed=done.changed + written.changed,
                asked=done.asked + written.asked,
                clashed=done.clashed + written.clashed,
                unmet=done.unmet + written.unmet,
                refused=done.refused + written.refused,
                latest=written.latest,
                position=job_ids[-1],
            )
            if watcher is not None:
                watcher(done)
        return done

    @property
    def _states(self) -> str:
        return ", ".join(self._criteria.states)

    @property
    def _store(self) -> "Store":
        return store_for(self._using)


def _retried(done: "Retried") -> Progress:
    return Progress(
        changed=len(done.ready),
        clashed=len(done.clashed),
        unmet=len(done.unmet),
        latest=done.ready,
    )
