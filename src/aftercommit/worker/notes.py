"""What a run notes is collected here, and written by a thread of the worker.

That thread has a connection of its own, so progress and log are seen while the task's transaction
is open, and stay if it is rolled back. The task's own thread writes the checkpoint and the
answers of calls, at once.
"""

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol

from aftercommit.notes import LONGEST_MESSAGE, MOST, NewLine, NewProgress
from aftercommit.options.secrets import without_secrets
from aftercommit.printable import lines as printable
from aftercommit.printable import one_line
from aftercommit.worker.runs import Run, now
from aftercommit.worker.secret_texts import masked

FIRST_LINES, LAST_LINES = 800, 200  # of a run; what is between them is left out
LONGEST_LINE = 4_000  # characters
LONGEST_LOGGER = 255
CUT = " …"
LEFT_OUT = "({count:,} lines of this run are left out here)"
USUAL_LEVEL = logging.INFO

Line = tuple[int, str, str, float]  # level, logger, message, and when


class Keeper(Protocol):
    """Writes what runs note; the part of the worker that this room needs."""

    @property
    def alias(self) -> str:
        """The database alias of the jobs."""

    def note(self, notes: "RunNotes") -> None:
        """Write what was noted soon, once for several calls."""

    def save(self, run: Run, value: str) -> bool:
        """Write the checkpoint; False if the claim was lost."""

    def saved(self, run: Run) -> str | None:
        """Return the checkpoint; raises ``ClaimLost``."""

    def answers(self, run: Run) -> dict[str, str]:
        """Return the recorded answers of calls."""

    def record(self, run: Run, name: str, value: str) -> str:
        """Record an answer; return the one that is recorded."""


class RunNotes:
    """The notes of one run, from any thread of it."""

    def __init__(self, run: Run, keeper: Keeper) -> None:
        self.run = run
        self.keeper = keeper
        self.answers: dict[str, str] | None = None  # of calls; None: not read yet
        self.has_saved = False  # this run has written a checkpoint
        self.has_lines = False  # some are in the table
        self._lock = threading.Lock()
        self._progress: tuple[int, int | None, str, float] | None = None
        self._first: deque[Line] = deque()
        self._last: deque[Line] = deque(maxlen=LAST_LINES)
        self._count = 0
        self._log: logging.Logger | None = None

    def progress(self, done: int, total: int | None, message: str) -> None:
        """Note how far the run is; a later call replaces it."""
        _check_number("done", done)
        if total is not None:
            _check_number("total", total)
        text = one_line(str(message))[:LONGEST_MESSAGE]
        self._progress = (done, total, self._hidden(text), now())
        self.keeper.note(self)

    def line(self, level: int, logger: str, message: str) -> None:
        """Note a line of the log."""
        text = printable(self._hidden(message))
        if len(text) > LONGEST_LINE:
            text = text[:LONGEST_LINE] + CUT
        entry = (level, one_line(logger)[:LONGEST_LOGGER], text, now())
        with self._lock:
            self._count += 1
            (self._first if self._count <= FIRST_LINES else self._last).append(entry)
        self.keeper.note(self)

    def _hidden(self, text: str) -> str:
        """Return a text without the secrets of the settings and those of the arguments."""
        return masked(without_secrets(text), self.run.secrets)

    @property
    def log(self) -> logging.Logger:
        """Return the logger of ``context.log``; nobody else has it, and it passes nothing on."""
        if self._log is None:
            level = self.run.facts.policy.keep_log or USUAL_LEVEL
            self._log = logging.Logger("aftercommit.context.log", level)
            self._log.propagate = False
            self._log.addHandler(_Lines(self))
        return self._log

    def take(self, *, over: bool) -> tuple[NewProgress | None, list[NewLine]]:
        """Return what is not written yet; the last lines of a long log when the run is ``over``.

        Give it to ``put_back`` if it could not be written.
        """
        moment = now()
        claim = self.run.claim
        with self._lock:
            said, self._progress = self._progress, None
            lines = list(self._first)
            self._first.clear()
            if over:
                lines += self._take_last(moment)
        progress = None
        if said is not None:
            done, total, message, at = said
            age = moment - at
            progress = NewProgress(claim.job_id, claim.token, done, total, message, age)
        return progress, [
            NewLine(claim.job_id, claim.token, claim.attempt, *line[:3], age=moment - line[3])
            for line in lines
        ]

    @property
    def holds_back(self) -> bool:
        """Whether there are last lines of a long log, which wait for the end of the run."""
        return bool(self._last)

    def put_back(self, progress: NewProgress | None, lines: list[NewLine]) -> None:
        """Take back what could not be written."""
        moment = now()
        with self._lock:
            if progress is not None and self._progress is None:
                at = moment - progress.age
                self._progress = (progress.done, progress.total, progress.message, at)
            entries = [(one.level, one.logger, one.message, moment - one.age) for one in lines]
            self._first.extendleft(reversed(entries))

    def _take_last(self, moment: float) -> Iterator[Line]:
        missing = self._count - FIRST_LINES - len(self._last)
        if self._last and missing > 0:
            yield (logging.WARNING, "", LEFT_OUT.format(count=missing), self._last[0][3])
        last = list(self._last)
        self._last.clear()
        self._count = min(self._count, FIRST_LINES)
        yield from last


def notes_of(run: Run, keeper: Keeper) -> RunNotes:
    """Return the notes of a run, which begin with the first call."""
    if run.notes is None:
        run.notes = RunNotes(run, keeper)
    return run.notes


# ---- lines of ``logging`` ---------------------------------------------------------------

_current: ContextVar[RunNotes | None] = ContextVar("aftercommit_notes", default=None)


def keep_log(run: Run, keeper: Keeper) -> None:
    """Keep what is logged in this context, by the thread or the coroutines of the run."""
    _current.set(notes_of(run, keeper))
    root = logging.getLogger()
    # Each time: whoever configures the log anew removes all handlers.
    if not any(isinstance(one, _LinesOfRuns) for one in root.handlers):
        root.addHandler(_LinesOfRuns())


class _Lines(logging.Handler):
    """Keeps records as lines of a run; never raises."""

    def __init__(self, notes: RunNotes | None = None) -> None:
        super().__init__()
        self._notes = notes

    def createLock(self) -> None:
        """Do without: the notes have a lock, and a fork or an interrupt may hold this one."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Keep a record."""
        if (notes := self._notes_of(record)) is not None:
            try:
                notes.line(record.levelno, self._name_of(record), self.format(record))
            except Exception:  # of a __str__() in the arguments, for example
                self.handleError(record)
        return True

    def _notes_of(self, _record: logging.LogRecord) -> RunNotes | None:
        return self._notes

    def _name_of(self, _record: logging.LogRecord) -> str:
        return ""


class _LinesOfRuns(_Lines):
    """Keeps what tasks log, if their declaration says so."""

    def _notes_of(self, record: logging.LogRecord) -> RunNotes | None:
        notes = _current.get()
        # Not what receivers of task_started and task_finished log.
        if notes is None or not notes.run.in_body:
            return None
        return notes if record.levelno >= (notes.run.facts.policy.keep_log or 0) else None

    def _name_of(self, record: logging.LogRecord) -> str:
        return record.name


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST:
        raise TypeError(
            f"context.progress(): {name}: expected a whole number from 0 on, got {value!r:.100}."
        )
