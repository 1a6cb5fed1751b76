"""Deletes ended jobs, notes of the inbox, old statistics and old records of the audit."""

import random
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from django.db.models import Model
from django.utils import timezone

from aftercommit import events
from aftercommit.enqueue.retention import Retention
from aftercommit.ids import first_id_of
from aftercommit.jobs.deleting import BATCH_TO_ARCHIVE, Deleting
from aftercommit.store.base import Store
from aftercommit.store.notes import TABLES
from aftercommit.store.pruning import FIRST_ID, EndedJob
from aftercommit.worker.runs import now

BATCH = 500  # jobs that one transaction deletes
TICKS_KEPT = timedelta(days=30)  # longer than any clock goes back
LOOK_EVERY = timedelta(minutes=1)
WHOLE_PASS_EVERY = timedelta(days=1)
GROUPS_EVERY = AUDIT_EVERY = timedelta(hours=1)
# Most jobs end within this time, or a tenth of the span: then one look at each is enough. A
# whole pass finds the others.
LAG = timedelta(hours=1)
RESTS = 4  # times as long as it has worked, so that a backlog takes a fifth of a connection
# On a busy machine a batch takes longer. Then a step begins so long after the last one, so that
# 1,000 jobs a second are deleted; but no less rest than work: half of a connection.
STEP = timedelta(milliseconds=500)
LEAST_REST = timedelta(milliseconds=20)


class Pruner:
    """Prunes one database alias in small batches.

    Any number of workers may do so at once: what is deleted is judged by the row. So that the
    others need not read the same rows, they leave it to the worker that began first, and look
    by themselves once a day, because that one may not know their backends.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        *,
        worker_id: UUID,
        silence: timedelta,
        pruned: Callable[[int], None] = lambda _jobs: None,
    ) -> None:
        self._store = store
        self._retention = retention
        self._worker_id = worker_id
        self._silence = silence  # of a worker that may be dead
        self._pruned = pruned  # called with the number of jobs that were deleted
        self._places: dict[timedelta, UUID] = {}  # by span: where the next page begins
        self._next_whole_pass = now() + WHOLE_PASS_EVERY.total_seconds()
        self._next_alone = now() + random.uniform(0.5, 1) * WHOLE_PASS_EVERY.total_seconds()  # noqa: S311
        self._begins = now() + random.uniform(0, 1) * LOOK_EVERY.total_seconds()  # noqa: S311
        self._at_work = False  # and not done
        self._reported_at = now()
        self._deleting = Deleting(store, retention)
        self._notes = 0  # since the last report
        self._groups_at, self._next_groups = FIRST_ID, self._begins
        self._next_audit = self._begins
        # What runs have noted, of jobs that are gone: where the walk through each table goes on.
        self._lost: dict[type[Model], UUID] = dict.fromkeys(TABLES, FIRST_ID)
        self._next_lost = 0.0

    def step(self) -> timedelta:
        """Delete one batch of each kind; return when to go on.

        Raises ``ArchiveFailed`` at the end of a step in which an archive has refused a job.
        """
        began = now()
        if began < self._begins:  # a worker that ends soon need not
            return timedelta(seconds=self._begins - began)
        if not self._at_work and not self._is_its_turn():
            self._store.connection.close()
            return LOOK_EVERY
        self._deleting.refused = []
        self._at_work = self._prune()
        if not self._at_work or now() - self._reported_at > LOOK_EVERY.total_seconds():
            self._report()
        for error in self._deleting.refused:
            raise error
        if not self._at_work:
            self._store.connection.close()  # not needed for a while
            return LOOK_EVERY
        return rest_after(timedelta(seconds=now() - began))

    def _is_its_turn(self) -> bool:
        if now() >= self._next_alone:
            self._next_alone = now() + WHOLE_PASS_EVERY.total_seconds()
            return True
        return self._store.workers.first(within=self._silence) in (None, self._worker_id)

    def _prune(self) -> bool:
        """Delete one batch for each span; return whether there is more to do."""
        spans = self._retention.spans()
        full = [self._prune_page(span, is_shortest=span == spans[0]) for span in spans]
        notes = self._store.prune_received(older_than=self._retention.of_messages(), limit=BATCH)
        self._notes += notes
        forgotten = self._store.forget_rates(limit=BATCH)
        ticks = self._store.prune_ticks(older_than=TICKS_KEPT, limit=BATCH)
        full += [self._prune_groups(), self._delete_lost_notes(), self._fold_statistics()]
        return any(full) or BATCH in {notes, forgotten, ticks, self._prune_audit()}

    def _prune_audit(self) -> int:
        """Delete old records of the audit, once an hour; return how many."""
        if now() < self._next_audit:
            return 0
        deleted = self._store.prune_audit(older_than=self._retention.of_audit(), limit=BATCH)
        if deleted < BATCH:
            self._next_audit = now() + AUDIT_EVERY.total_seconds()
        return deleted

    def _prune_groups(self) -> bool:
        """Delete groups whose jobs are long gone; return whether there is more to do."""
        if now() < self._next_groups:
            return False
        older_than = self._retention.of_groups()
        place = self._store.prune_groups(
            after=self._groups_at, older_than=older_than, limit=BATCH
        )
        self._groups_at = place or FIRST_ID
        if place is None:
            self._next_groups = now() + GROUPS_EVERY.total_seconds()
        return place is not None

    def _fold_statistics(self) -> bool:
        """Add flushes to minutes, hours and totals; return whether there is more to do."""
        folded = self._store.fold_statistics(limit=BATCH)
        pruned = self._store.prune_statistics(limit=BATCH)
        return max(folded, pruned) >= BATCH

    def _delete_lost_notes(self) -> bool:
        """Go on in each table of notes, once a day to its end; return whether there is more."""
        if not self._lost:
            if now() < self._next_lost:
                return False
            self._lost = dict.fromkeys(TABLES, FIRST_ID)
        for model, place in list(self._lost.items()):
            end = self._store.delete_lost_notes(model, after=place, limit=BATCH)
            if end is None:
                del self._lost[model]
                self._next_lost = now() + WHOLE_PASS_EVERY.total_seconds()
            else:
                self._lost[model] = end
        return bool(self._lost)

    def _prune_page(self, span: timedelta, *, is_shortest: bool) -> bool:
        """Delete what is over in the next page of rows that are older than a span.

        The walk of the shortest span begins with the first row, and passes those of all others.
        """
        start = FIRST_ID if is_shortest else first_id_of(timezone.now() - span - LAG)
        place = self._places.setdefault(span, start)
        limit = BATCH_TO_ARCHIVE if self._retention.archives else BATCH
        older_than = span + min(LAG, span / 10)
        page = self._store.page(after=place, older_than=older_than, limit=limit)
        done = self._deleting
        before = done.jobs, len(done.refused)
        done.delete([one for one in page.ended if self._is_over(one)])
        nothing_but_refused = done.jobs == before[0] and len(done.refused) > before[1]
        if nothing_but_refused and not page.is_full:
            return False  # the archive may be away: the next step asks for the same
        # After the DELETE, which may have to be repeated. A whole pass meets a refused job again.
        self._places[span] = page.last
        if is_shortest and not page.is_full and now() >= self._next_whole_pass:
            self._next_whole_pass = now() + WHOLE_PASS_EVERY.total_seconds()
            self._places[span] = FIRST_ID
            return True
        return page.is_full

    def _is_over(self, job: EndedJob) -> bool:
        span = self._retention.span_of(
            backend=job.backend, task_path=job.task_path, state=job.state
        )
        return job.age > span

    def _report(self) -> None:
        jobs, protected, notes = self._deleting.jobs, self._deleting.protected, self._notes
        self._deleting.jobs = self._deleting.protected = self._notes = 0
        self._reported_at = now()
        self._store.workers.pruned(self._worker_id, jobs=jobs)
        self._pruned(jobs)
        if jobs or protected or notes:
            events.send(
                events.jobs_pruned,
                sender=type(self),
                using=self._store.alias,
                jobs=jobs,
                protected=protected,
                notes=notes,
            )


def rest_after(worked: timedelta) -> timedelta:
    """Return how long to rest after a step that took so long."""
    return max(LEAST_REST, min(RESTS * worked, max(worked, STEP - worked)))
