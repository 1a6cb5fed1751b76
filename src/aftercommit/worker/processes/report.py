"""What a supervisor knows of its worker: whether it is alive and ready, and if not, why."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Self

STUCK = timedelta(seconds=15)  # one step of a thread of ours takes much less
SILENT = timedelta(seconds=5)  # a process counts each second
# A database that comes back ends most of what keeps a worker from its work, and a new process
# would not find it any sooner. What lasts longer is worth a new one.
LOST = timedelta(minutes=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessReport:
    """One of ``--processes``; spans in seconds, as the message has them."""

    pid: int | None  # None: there is no process now
    ready: bool  # it has loaded the project, and claims
    missing_for: float  # since it was not ready
    silent_for: float  # since it has shown that its threads get their turn
    stuck_for: float  # since the thread of it that hangs has begun its step
    problems: tuple[str, ...]  # why it cannot claim or write, in its own words
    last_end: str  # how the last process of this place ended; empty: in good order
    running: int
    done: int

    @property
    def name(self) -> str:
        """What it is called in a reason."""
        return "a worker process" if self.pid is None else f"worker process {self.pid}"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """A worker as its supervisor sees it, without asking any database."""

    stopping: bool
    processes: tuple[ProcessReport, ...]
    done: int  # runs recorded since the start, by processes that are gone as well
    running: int
    deaths: int  # processes that did not end in good order

    def as_message(self) -> dict[str, Any]:
        """Return it as values of JSON."""
        return asdict(self)

    @classmethod
    def of(cls, message: dict[str, Any]) -> Self:
        """Return what a message says."""
        processes = tuple(
            ProcessReport(**{**one, "problems": tuple(one["problems"])})
            for one in message["processes"]
        )
        return cls(**{**message, "processes": processes})

    def why_not_ready(self) -> list[str]:
        """Return why jobs are not claimed, or not by all processes; nothing: it is ready."""
        if self.stopping:
            return ["the worker stops: it claims no more jobs"]
        return [reason for one in self.processes for reason in _why_not_ready(one)]

    def why_not_alive(self) -> list[str]:
        """Return why only a new worker would help; nothing: it is alive.

        A stop takes as long as it takes: ``--grace`` is its limit.
        """
        if self.stopping:
            return []
        return [reason for one in self.processes for reason in _why_not_alive(one)]


def _why_not_ready(one: ProcessReport) -> Iterator[str]:
    if one.pid is None:
        yield f"a worker process is missing{_since(one.missing_for)}{_end(one)}"
    elif not one.ready:
        yield f"{one.name} has not started yet{_since(one.missing_for)}{_end(one)}"
    if one.silent_for >= SILENT.total_seconds():
        yield f"{one.name} shows no sign of life{_since(one.silent_for)}"
    yield from (f"{one.name}: {problem}" for problem in one.problems)


def _why_not_alive(one: ProcessReport) -> Iterator[str]:
    lost = LOST.total_seconds()
    if one.missing_for >= lost and (one.pid is None or one.last_end):
        yield f"a worker process is missing{_since(one.missing_for)}{_end(one)}"
    if one.silent_for >= lost:
        yield f"{one.name} shows no sign of life{_since(one.silent_for)}"
    if one.stuck_for >= lost:
        yield f"{one.name}: a thread hangs{_since(one.stuck_for)}: {'; '.join(one.problems)}"


def _since(seconds: float) -> str:
    return f" for {seconds:.0f} s"


def _end(one: ProcessReport) -> str:
    return f"; the last one ended with {one.last_end}" if one.last_end else ""
