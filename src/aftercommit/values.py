"""The frozen values that the packages pass to each other."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from aftercommit.gcra import Rate, no_rate_known
from aftercommit.ids import new_job_id
from aftercommit.stored import read_errors

QUEUE, TASK = "queue", "task"  # what operators may pause and limit
NO_TIME = timedelta(0)
NOTHING: Mapping[str, str] = MappingProxyType({})
# A day from the ends of ``datetime``, so that a moment can be shown in every time zone.
FIRST_MOMENT = datetime(1, 1, 2, tzinfo=UTC)
LAST_MOMENT = datetime(9999, 12, 30, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """A job that is to be inserted, in the transaction of the code that enqueues it."""

    id: UUID = field(default_factory=new_job_id)
    task_path: str
    payload: str  # JSON text, ASCII: {"args": [...], "kwargs": {...}}; see enqueue.payload
    backend: str = "default"
    queue: str = "default"
    priority: int = 0  # -100 to 100, higher first
    run_after: datetime | None = None  # None: at once
    max_attempts: int = 5
    unique_key: str | None = None  # at most one ready or running job has it
    unique_until_started: bool = False  # the key is free again at the first claim
    meta: dict[str, Any] = field(default_factory=dict)
    limit_key: str | None = None  # jobs with the same key share the slots of a limit
    rate_key: str | None = None  # jobs with the same key share the starts of a rate
    fair_key: str | None = None  # jobs with the same key share a turn
    tags: str | None = None  # JSON list of texts
    headers: str | None = None  # JSON object of texts; see enqueue.headers
    goes_with_success: bool = False  # the row; is not stored
    # Of a call with secrets, which are encrypted for one job: its payload for another one.
    payload_for: Callable[[UUID], str] | None = None
    needed: bool = False  # whoever ends it looks for jobs that wait for it
    waits: bool = False  # for other jobs: it has edges

    def payload_under(self, job_id: UUID) -> str:
        """Return the payload for a job with this id; whoever changes the id needs it."""
        return self.payload if self.payload_for is None else self.payload_for(job_id)


CANCEL, RUN, FAIL = ON_FAILURE = ("cancel", "run", "fail")  # what becomes of a job that waits


class Edge(NamedTuple):
    """A job waits for another one."""

    job_id: UUID
    needs_id: UUID
    on_failure: str = CANCEL  # if the other one fails or is cancelled
    place: str | None = None  # where its result goes; None: nowhere. See ``places``


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJobs:
    """Many jobs that are to be inserted and differ in their ids and arguments only."""

    ids: Sequence[str]
    payloads: Sequence[str]  # one for each id; see NewJob
    like: NewJob  # its id and payload are not used; it has no unique key

    def each(self) -> list[NewJob]:
        """Return the jobs one by one."""
        # Not replace() for each: that would read all fields again.
        alike = {one.name: getattr(self.like, one.name) for one in fields(NewJob)}
        del alike["id"], alike["payload"]
        pairs = zip(self.ids, self.payloads, strict=True)
        return [NewJob(id=UUID(job_id), payload=text, **alike) for job_id, text in pairs]


Together = Sequence[NewJob] | NewJobs  # of one call


@dataclass(frozen=True, slots=True, kw_only=True)
class OnConflict:
    """What is done when the unique key of a new job has a holder; by default it is named."""

    refuses: bool = False  # with JobExists
    replaces: bool = False  # arguments, priority and run_after of a holder that has not started
    debounce: timedelta | None = None  # such a holder starts this long after the last call
    debounce_max: timedelta | None = None  # but not later than this after the first one

    @property
    def changes_holder(self) -> bool:
        """Whether anything is written to a holder that has not started."""
        return self.replaces or self.debounce is not None


class Claim(NamedTuple):  # not a dataclass: batches of claims must be quick to make
    """The right to run one attempt of one job until its lease ends.

    ``(job_id, token)`` is the fencing token. Every later write about this run has both in
    its WHERE, so a worker that has lost its claim changes nothing.
    """

    job_id: UUID
    token: int  # the fence: +1 at every claim, never lowered
    attempt: int  # 1 for the first run; crashed runs count, released ones do not
    crashes: int  # runs that ended with the death of their worker
    conflicts: int  # runs released because of a deadlock or a lost connection
    max_attempts: int  # runs that may end with an exception
    task_path: str
    payload: str
    errors: str  # JSON text: one entry for each failed run so far
    backend: str
    queue: str
    priority: int
    tags: str | None  # JSON list of texts
    headers: str | None  # JSON object of texts
    run_after: datetime
    enqueued_at: datetime
    started_at: datetime  # of the first run
    claimed_at: datetime  # of this run
    worker_id: UUID
    lease_id: UUID  # of the lease that all jobs of the same claim share
    limit_key: str | None = None  # only of a job that was claimed under a limit

    @property
    def failed_runs(self) -> int:
        """Runs before this one that ended with an exception."""
        return self.attempt - self.crashes - 1

    def history(self) -> tuple[list["RunError"], list[str]]:
        """Return why earlier runs failed, and the workers they were on."""
        entries = read_errors(self.errors)
        errors = [
            RunError(
                exception_class_path=entry["exception_class_path"],
                traceback=entry["traceback"],
            )
            for entry in entries
        ]
        return errors, [entry["worker_id"] for entry in entries]


class Scheduled(NamedTuple):
    """The schedule that has made a job, and for which moment."""

    name: str
    moment: datetime  # when it was due, in UTC; of "run now" the moment of that


class Pause(NamedTuple):
    """A queue or a task of which no job is claimed until somebody resumes it."""

    kind: str  # queue or task
    name: str
    since: datetime
    by: str  # empty: nobody has said
    why: str  # the same

    @property
    def what(self) -> str:
        """What is paused."""
        return f"the {self.kind} {self.name!r}"

    @property
    def details(self) -> str:
        """Since when, by whom and why, as far as that is known."""
        by = f" by {self.by}" * bool(self.by)
        why = f": {self.why}" * bool(self.why)
        return f"since {self.since:%Y-%m-%d %H:%M:%S} UTC{by}{why}"


class SetLimit(NamedTuple):
    """How many jobs of a queue or a task run at once, as operators have set it at run time."""

    kind: str  # queue or task
    name: str
    limit: int

    @property
    def what(self) -> str:
        """What it is about."""
        return f"the {self.kind} {self.name!r}"


class SetRate(NamedTuple):
    """How often jobs of a queue or a task start, as operators have set it at run time."""

    kind: str  # queue or task
    name: str
    text: str  # as in a task's declaration: "60/m"
    rate: Rate

    @property
    def what(self) -> str:
        """What it is about."""
        return f"the {self.kind} {self.name!r}"


class Limit(NamedTuple):
    """How many jobs with the same ``limit_key`` may run at once."""

    slots: int
    ordered: bool = False  # one after the other, each to its end
    shared_by_rate: bool = False  # all jobs with the same rate key have the same limit key


UNLIMITED = Limit(slots=2**31 - 1)


QueueClosed = Callable[[str, timedelta], None]


def remembers_nothing(_queue: str, _wait: timedelta) -> None:
    """Ask a closed queue again at the next claim."""


def nobody_waits() -> None:
    """Ask again when there is reason to."""


LineMet = Callable[[str, str, timedelta | None], None]


def nobody_listens(_rate_key: str, _task_path: str, _wait: timedelta | None) -> None:
    """Let the claimer's sweeps find lines of rates."""


def no_limit_known(_task_path: str) -> Limit | None:
    """Return None: the claimer knows no task."""
    return None


class Group(NamedTuple):
    """The claimable jobs of one backend, queue and priority: a part of the index."""

    backend: str
    queue: str
    priority: int


class Head(NamedTuple):
    """The first job of a group."""

    group: Group
    run_after: datetime
    now: datetime  # by the database's clock

    @property
    def waited(self) -> timedelta:
        """For how long it has been due; negative before that."""
        return self.now - self.run_after

    @property
    def age(self) -> timedelta | None:
        """For how long it has been due; None if it is not."""
        return self.waited if self.run_after <= self.now else None


class Position(NamedTuple):
    """The place of a job in the order of its queue."""

    backend: str
    priority: int
    run_after: datetime
    job_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimQuery:
    """Which jobs of one queue a worker claims, and for how long."""

    queue: str
    limit: int  # jobs
    worker_id: UUID
    lease: timedelta  # how long the worker may not renew before the jobs are rescued
    backends: Sequence[str] = ()  # aliases in TASKS; empty: all
    # Backends and priorities, in the order in which to claim; None: all that have due jobs.
    groups: Sequence[tuple[str, int]] | None = None
    unknown: Sequence[str] = ()  # paths of tasks that this worker does not have
    only: Sequence[UUID] | None = None  # only these jobs; None: any job
    after: Position | None = None  # a hint: begin behind it, at its backend and priority
    crashed: bool | None = None  # True: only jobs with crashes; False: only without; None: any
    # The limit of a task by its path; None: the claimer does not know the task.
    limit_of: Callable[[str], Limit | None] = no_limit_known
    limited_first: bool = False  # a hint: the jobs in front are under limits
    busy: Sequence[str] = ()  # limit keys whose jobs are left out
    # Tasks without a limit in their code that are limited at run time: path and limit key.
    limited: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    # Jobs of the queue that may run at once, on all machines; None: any number.
    at_once: int | None = None
    # With ``at_once``: how many of them can begin now; of more, half of the free slots.
    startable: int | None = None
    # Fewer claims leave threads idle: then jobs that wait for slots are parked, so that those
    # behind them are found. None: they are parked in any case. ``slots_used_up`` is told if jobs
    # wait and were not parked.
    needed: Callable[[], int] | None = None
    slots_used_up: Callable[[], None] = nobody_waits
    rate_of: Callable[[str], Rate | None] = no_rate_known  # of a task by its path
    # Tasks without a rate in their code that have one at run time: path and rate key.
    rated: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    # Is told that jobs wait for a rate: its key, a path of a task, when the next may start.
    # None: somebody else decides about the key just now, and its jobs are claimable still.
    line_met: LineMet = nobody_listens
    paused: Sequence[str] = ()  # tasks among ``unknown`` whose jobs are set aside
    until: datetime | None = None  # only jobs that were due by then; None: any that is due
    fair: bool = False  # jobs that take turns are moved into their lines, and not claimed
    without_fair: bool = False  # leave those out that are not in their lines yet
    queue_rate: Rate | None = None  # of the queue's starts, on all machines; None: any
    # Is told that nothing of the queue may start for a while.
    queue_closed: QueueClosed = remembers_nothing
    ended: Sequence[UUID] = ()  # leases of this worker to delete: none of their jobs is running


class Renewed(NamedTuple):
    """What a renewal found and did."""

    held: dict[UUID, bool]  # jobs whose claims are valid: whether to cancel them
    leases: frozenset[UUID]  # that were extended; those locked by others were not


class Ended(NamedTuple):
    """A job whose run was ended by a write, and its new state."""

    job_id: UUID
    state: str  # one of the finished states, or ready again


@dataclass(frozen=True, slots=True, kw_only=True)
class RunError:
    """Why one run did not succeed, in text that every database can store."""

    exception_class_path: str
    traceback: str
    # For the log; not stored, since the traceback ends with it.
    message: str = ""
    place: str = ""  # "file:line in function" of the project's own code
    took: timedelta | None = None  # its body; None: it has not begun, or nobody knows


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The task returned."""

    result: str = "null"  # JSON text

    @property
    def value(self) -> Any:
        """What the task returned."""
        return json.loads(self.result)


RETURNED_NONE = Succeeded()  # the outcome of most runs


@dataclass(frozen=True, slots=True)
class SucceededAndGone(Succeeded):
    """The task returned, and nobody wants its result: the row goes with the end of the job."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The run failed and an attempt is left: the job is ready again after ``delay``."""

    error: RunError
    delay: timedelta = NO_TIME


@dataclass(frozen=True, slots=True)
class Failed:
    """The run failed for good."""

    error: RunError
    discarded: bool = False  # the task has decided so, by ``Discard``


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The run was ended on request."""

    error: RunError | None = None  # None: nothing was raised


@dataclass(frozen=True, slots=True)
class Released:
    """The job is released and its run does not count: a shutdown, a snooze, a lost connection."""

    delay: timedelta = NO_TIME  # zero keeps the job's place in the queue
    conflict: bool = False  # because of the database; such runs are counted separately


Outcome = Succeeded | Retry | Failed | Cancelled | Released


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and whether that is already in the table (atomic tasks)."""

    outcome: Outcome
    recorded: bool = False
    exception: BaseException | None = None
    in_doubt: Succeeded | None = None  # COMMIT was sent: this may be the outcome
