"""Deletes ended jobs and notes of the inbox when their time is over."""

import random
from datetime import timedelta
from uuid import UUID

from django.utils import timezone

from aftercommit import events
from aftercommit.enqueue.retention import Retention
from aftercommit.ids import first_id_of
from aftercommit.jobs.deleting import BATCH_TO_ARCHIVE, Deleting
from aftercommit.store.base import Store
from aftercommit.store.pruning import FIRST_ID, EndedJob
from aftercommit.worker.runs import now

BATCH = 500  # jobs that one transaction deletes
LOOK_EVERY = timedelta(minutes=1)
WHOLE_PASS_EVERY = timedelta(days=1)
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
        self, store: Store, retention: Retention, *, worker_id: UUID, silence: timedelta
    ) -> None:
        self._store = store
        self._retention = retention
        self._worker_id = worker_id
        self._silence = silence  # of a worker that may be dead
        self._places: dict[timedelta, UUID] = {}  # by span: where the next page begins
        self._next_whole_pass = now() + WHOLE_PASS_EVERY.total_seconds()
        self._next_alone = now() + random.uniform(0.5, 1) * WHOLE_PASS_EVERY.total_seconds()  # noqa: S311
        self._begins = now() + random.uniform(0, 1) * LOOK_EVERY.total_seconds()  # noqa: S311
        self._at_work = False  # and not done
        self._reported_at = now()
        self._deleting = Deleting(store, retention)
        self._notes = 0  # since the last report

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
        return any(full) or BATCH in {notes, forgotten}

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
