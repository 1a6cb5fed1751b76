"""The place of one worker process, whose processes follow each other."""

from dataclasses import dataclass, field
from datetime import timedelta

from aftercommit.options.worker import WorkerConfig
from aftercommit.worker.processes.launch import Child
from aftercommit.worker.processes.report import ProcessReport
from aftercommit.worker.runs import now

FIRST_PAUSE = timedelta(milliseconds=100)  # before a dead process is replaced
IN_VAIN = timedelta(seconds=2)  # a pause after a process that had nothing to do
LONGEST_PAUSE = timedelta(seconds=10)


@dataclass(slots=True)
class ProcessSlot:
    """One of ``--processes``, or the one for jobs with crashes."""

    config: WorkerConfig
    child: Child | None = None
    start_at: float = field(default_factory=now)
    failed_starts: int = 0  # in a row
    through: bool = False  # no process is wanted here any more, or for now
    has_run: bool = False  # a job, since it was opened
    not_before: float = 0.0  # the next start, after a process that had nothing to do
    done_before: int = 0  # by processes that are gone
    missing_since: float | None = field(default_factory=now)  # a process that is ready
    last_end: str = ""  # of the process before, if that was not in good order

    def report(self) -> ProcessReport:
        """Return how it is with its process."""
        child = self.child
        ready = child is not None and child.ready
        if ready:
            self.missing_since, self.last_end = None, ""
        elif self.missing_since is None:
            self.missing_since = now()
        missing_for = 0.0 if self.missing_since is None else now() - self.missing_since
        return ProcessReport(
            pid=None if child is None else child.process.pid,
            ready=ready,
            missing_for=missing_for,
            silent_for=0.0 if child is None else child.silence.lasted.total_seconds(),
            stuck_for=0.0 if child is None else child.stuck_for,
            problems=() if child is None else child.problems,
            last_end=self.last_end,
            running=0 if child is None else child.running,
            done=self.done_before + (0 if child is None else child.done),
        )

    @property
    def closed(self) -> bool:
        """Whether no process is here, and none is wanted."""
        return self.through and self.child is None

    def open(self) -> None:
        """Let a process be started, if there is none."""
        self.start_at = max(now(), self.not_before)
        self.through = self.has_run = False

    def pause(self) -> timedelta:
        """Put the next start off; return for how long."""
        pause = min(
            FIRST_PAUSE * float(2 ** min(max(self.failed_starts - 1, 0), 10)), LONGEST_PAUSE
        )
        self.start_at = now() + pause.total_seconds()
        return pause
