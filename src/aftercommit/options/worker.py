"""What one worker is told, as a frozen, checked value."""

from dataclasses import dataclass
from datetime import timedelta

from aftercommit.errors import ConfigurationError
from aftercommit.options.checked import (
    CheckedOptions,
    check_counts,
    check_flags,
    check_not_negative,
    names_in,
    shown,
)
from aftercommit.options.choice import QueueChoice

MOST_AT_ONCE = 1000  # processes of a worker, threads of a process
MOST_MEMORY = 2**50  # bytes
RELAY_ONLY, RELAY_TOO, NO_MESSAGES = "only", "too", "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig(CheckedOptions):
    """What one worker is told. Built once, at the edge, then only read."""

    backends: tuple[str, ...] = ()  # aliases of TASKS; empty: all that are ours
    # Names, patterns, each perhaps with a weight; empty: every queue of the backends.
    queues: tuple[str, ...] = ()
    strict: bool = False  # a queue is asked when those before it have no due job
    processes: int = 1
    threads: int = 4  # jobs that one process runs at once
    drain: bool = False  # end when nothing is due
    max_jobs: int | None = None  # end after this many, over all processes
    max_jobs_per_process: int | None = None  # then a process is replaced
    max_memory: int | None = None  # bytes; a process that occupies more is replaced
    grace: timedelta = timedelta(seconds=30)  # how long a stop waits for running jobs
    watchdog: timedelta | None = None  # of silent processes; None: the longest lease; 0: none
    fork: bool = True  # let processes be forks of this one, where that is safe
    relay: str = NO_MESSAGES  # whether messages for brokers are published: "only" they, "too"
    crashed: bool = False  # run only jobs that were on a dead worker; else only the others
    only: tuple[str, ...] = ()  # ids of jobs to run; empty: any
    tells_counts: bool = False  # what was counted by task, to the supervisor, for its port

    def __post_init__(self) -> None:
        for name in ("backends", "queues", "only"):
            object.__setattr__(self, name, names_in(name, getattr(self, name)) or ())
        check_flags(strict=self.strict)
        _ = self.choice  # which refuses what makes no sense
        check_counts(MOST_AT_ONCE, processes=self.processes, threads=self.threads)
        if self.max_jobs is not None:
            check_counts(max_jobs=self.max_jobs)
        if self.max_jobs_per_process is not None:
            check_counts(max_jobs_per_process=self.max_jobs_per_process)
        if self.max_memory is not None:
            check_counts(MOST_MEMORY, max_memory=self.max_memory)
        check_flags(drain=self.drain, fork=self.fork, crashed=self.crashed)
        check_flags(tells_counts=self.tells_counts)
        if self.relay not in (RELAY_ONLY, RELAY_TOO, NO_MESSAGES):
            raise ConfigurationError(f"relay: expected only, too or no, got {shown(self.relay)}.")
        check_not_negative(grace=self.grace)
        if self.watchdog is not None:
            check_not_negative(watchdog=self.watchdog)

    @property
    def choice(self) -> QueueChoice:
        """What ``queues`` and ``strict`` say."""
        return QueueChoice.parsed(self.queues, strict=self.strict)
