"""Writes what runs note, for one database alias: in batches, on a connection of its own."""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from uuid import UUID

from django.db import Error, InterfaceError, OperationalError

from aftercommit.errors import ClaimLost
from aftercommit.notes import NewLine, NewProgress
from aftercommit.safe_log import log_error
from aftercommit.store.base import Store
from aftercommit.transient_errors import is_conflict
from aftercommit.values import RunResult, SucceededAndGone
from aftercommit.worker.notes import RunNotes
from aftercommit.worker.runs import Run, now

EVERY = timedelta(seconds=1)  # a run's notes are written, at most
UNTIL_RUNG = timedelta(seconds=30)
RUNS_KEPT = 20  # of a job, with their log lines
MOST_TRIES = 3  # before an outcome; then the notes of the run are left out
Taken = tuple[RunNotes, NewProgress | None, list[NewLine]]


class NotesWriter:
    """Collects the runs that have noted something, and writes their notes.

    ``step`` is repeated by a thread of its own, which begins with the first note. On SQLite it
    waits while the transaction of a task has the write lock; no task ever waits for it.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.ring: Callable[[], None] = lambda: None
        self._waiting: dict[RunNotes, None] = {}  # in the order of their first note
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._going: set[UUID] = set()  # jobs with notes whose rows go with their success
        self._next_at = 0.0
        self._failed = 0  # writes before outcomes, in a row

    # ---- what runs call ---------------------------------------------------------

    @property
    def alias(self) -> str:
        """See ``Keeper``."""
        return self._store.alias

    def note(self, notes: RunNotes) -> None:
        """See ``Keeper``."""
        if notes in self._waiting:
            return
        with self._lock:
            is_first = not self._waiting
            self._waiting[notes] = None
        if is_first:
            self.ring()

    def save(self, run: Run, value: str) -> bool:
        """See ``Keeper``; in the transaction of the caller, if one is open."""
        self._stored(run)
        return self._store.save(run.claim, value)

    def saved(self, run: Run) -> str | None:
        """See ``Keeper``; a run that is the first one of its job has no checkpoint to read."""
        kept = self._store.take_saved(run.claim)
        if kept is None:
            raise ClaimLost(job_id=run.claim.job_id)
        self._stored(run)
        return kept.value

    def answers(self, run: Run) -> dict[str, str]:
        """See ``Keeper``."""
        return self._store.answers_of(run.claim.job_id)

    def record(self, run: Run, name: str, value: str) -> str:
        """See ``Keeper``. The write is repeated once, on a new connection."""
        self._stored(run)
        try:
            kept = self._store.record_answer(run.claim, name, value)
        except (OperationalError, InterfaceError):
            if not self._store.answers_anew():
                raise
            kept = self._store.record_answer(run.claim, name, value)
        return value if kept is None or kept.value is None else kept.value

    # ---- writing ----------------------------------------------------------------

    def step(self) -> timedelta:
        """Write what was noted, at most once a second; return when to write again."""
        if (left := self._next_at - now()) > 0:
            return timedelta(seconds=left)
        if not self._waiting and not self._going:
            return UNTIL_RUNG
        try:
            self.write_all()
        finally:
            self._next_at = now() + EVERY.total_seconds()
        return EVERY if self._waiting else UNTIL_RUNG

    def write_all(self) -> None:
        """Write everything now, and delete the notes of jobs whose rows have gone."""
        self._write(self._next(None))
        if going := list(self._going):
            self._going.difference_update(set(going) - self._store.delete_notes_of_gone(going))

    def before_outcomes(self, batch: Sequence[tuple[Run, RunResult]]) -> None:
        """Write the notes of runs whose outcomes are written next.

        Raises as the write of the outcomes would if the database does not answer. Notes that
        it refuses again and again are dropped: an outcome must be written in any case.
        """
        if not self._waiting and not self._going:
            return
        wanted = [run.notes for run, _result in batch if run.notes is not None]
        if not wanted:
            return
        try:
            self._write(self._next(wanted))
            self._failed = 0
        except Error as error:
            self._failed += 1
            if self._failed <= MOST_TRIES and self._may_pass(error):
                raise
            self._failed = 0
            self._drop(wanted, error)
        if self._going:
            self.ring()  # to delete what belongs to rows that go now

    def _next(self, wanted: Iterable[RunNotes] | None) -> list[Taken]:
        with self._lock:
            chosen = list(self._waiting) if wanted is None else list(wanted)
            chosen = [one for one in chosen if one in self._waiting]
            for one in chosen:
                del self._waiting[one]
        over = wanted is not None
        taken = [(one, *one.take(over=over or one.run.is_over)) for one in chosen]
        for one in chosen:
            if one.holds_back:
                self._waiting[one] = None
        return taken

    def _write(self, taken: list[Taken]) -> None:
        if not any(progress or lines for _notes, progress, lines in taken):
            return
        with self._writing:
            try:
                self._store.write_notes(
                    [progress for _notes, progress, _lines in taken if progress is not None],
                    [line for _notes, _progress, lines in taken for line in lines],
                )
                for notes, _progress, lines in taken:
                    self._stored(notes.run)
                    self._forget_early_runs(notes, lines)
            except BaseException:
                for notes, progress, lines in taken:
                    notes.put_back(progress, lines)
                    self.note(notes)
                raise

    def _forget_early_runs(self, notes: RunNotes, lines: list[NewLine]) -> None:
        claim = notes.run.claim
        if lines and not notes.has_lines:
            notes.has_lines = True
            if claim.token > RUNS_KEPT:
                self._store.forget_lines(claim.job_id, before=claim.token - RUNS_KEPT + 1)

    def _stored(self, run: Run) -> None:
        """Note that something is stored about a job whose row goes with its success.

        The store deletes the notes of later runs with the row. It cannot know of the first run
        of a job whether there are any, and would have to ask for each.
        """
        if run.facts.success is SucceededAndGone and run.claim.token == 1:
            self._going.add(run.claim.job_id)

    def _may_pass(self, error: Error) -> bool:
        return is_conflict(error, vendor=self._store.connection.vendor)

    def _drop(self, wanted: list[RunNotes], error: Error) -> None:
        self._next(wanted)
        log_error(
            "The progress and log of %d runs cannot be written, and are left out; their outcomes "
            "are written all the same",
            len(wanted),
            error=error,
            level=logging.WARNING,
        )
