"""What the functions of ``OPTIONS["middleware"]`` and ``OPTIONS["headers"]`` receive."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

from aftercommit.values import (
    NO_TIME,
    Cancelled,
    Claim,
    Failed,
    Outcome,
    Released,
    Retry,
    RunResult,
    Succeeded,
)

if TYPE_CHECKING:
    from aftercommit._compat import BaseTask

SUCCEEDED, RETRY, FAILED = "succeeded", "retry", "failed"
DISCARDED, CANCELLED, RELEASED = "discarded", "cancelled", "released"


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueuing:
    """A call that enqueues, as the functions that write headers see it.

    Its jobs are of one task and have the same headers: one job of ``enqueue()``, any number of
    ``enqueue_many()`` and of the calls of a task in one graph.
    """

    task: "BaseTask | None"  # with what ``using()`` has changed; None: of a broker's message
    name: str  # the path of the task; of a message that of the broker's task
    job_ids: Sequence[str]  # a unique job that exists already keeps its own id
    queue: str
    backend: str  # alias in TASKS
    using: str  # database alias
    broker: str | None = None  # the library of a message that is kept for it: "celery" …


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JobRun:
    """One run of a job, as middleware sees it: the call of a task's function.

    ``runs`` has this run alone, or those of all jobs of the call if the task has ``batch_size``;
    then this is the first of them.
    """

    task: "BaseTask"
    claim: Claim = field(repr=False)
    headers: dict[str, str]  # written when the job was enqueued; see ``OPTIONS["headers"]``
    using: str  # database alias of the job
    args: Sequence[Any] = field(repr=False)  # may contain secrets
    kwargs: dict[str, Any] = field(repr=False)
    _result: Callable[[], RunResult | None] = field(repr=False)
    _others: list["JobRun"] = field(repr=False)
    _enter: Callable[[], Any] = field(repr=False)

    @property
    def name(self) -> str:
        """The path of the task."""
        return self.task.module_path

    @property
    def job_id(self) -> str:
        """The id of the job: the same in every attempt."""
        return str(self.claim.job_id)

    @property
    def attempt(self) -> int:
        """1 for the first run; runs that were released do not count."""
        return self.claim.attempt

    @property
    def max_attempts(self) -> int:
        """How many runs may end with an exception."""
        return self.claim.max_attempts

    @property
    def queue(self) -> str:
        """The queue of the job."""
        return self.claim.queue

    @property
    def backend(self) -> str:
        """The alias in TASKS of the job's backend."""
        return self.claim.backend

    @property
    def priority(self) -> int:
        """The priority of the job, -100 to 100."""
        return self.claim.priority

    @property
    def enqueued_at(self) -> datetime:
        """When the job was enqueued, by the database's clock."""
        return self.claim.enqueued_at

    @property
    def wait(self) -> timedelta:
        """How long this run was due before a worker claimed it."""
        return max(self.claim.claimed_at - self.claim.run_after, NO_TIME)

    @property
    def runs(self) -> Sequence["JobRun"]:
        """All runs of this call, this one first."""
        return tuple(self._others)

    @property
    def outcome(self) -> str | None:
        """How the run has ended so far; None before ``get_result`` has returned or raised.

        ``"succeeded"``; ``"retry"``: it failed and runs again; ``"failed"``: for good, also if
        the task has raised an exception of ``discard_on``; ``"discarded"`` by ``Discard``;
        ``"cancelled"``; ``"released"``: it runs again and this run does not count. None in a
        batch that is called again without the others.
        """
        result = self._result()
        return None if result is None else word_of(result.outcome)

    @property
    def error(self) -> BaseException | None:
        """What the run has ended with; None before, and if nothing was raised."""
        result = self._result()
        return None if result is None else result.exception

    @property
    def is_recorded(self) -> bool:
        """Whether the outcome is committed already, with the effects of an atomic task."""
        result = self._result()
        return result is not None and result.recorded

    def __iter__(self) -> Iterator["JobRun"]:
        return iter(self.runs)


def around(
    enter: Callable[[JobRun], AbstractContextManager[Any]],
    *,
    headers: Callable[[Enqueuing], Any] | None = None,
    around_worker: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Callable[[Callable[[JobRun], Any]], Callable[[JobRun], Any]]:
    """Return a factory of middleware that is inside a context manager during each run.

    For functions and coroutines alike, so it costs no thread. ``headers`` and ``around_worker``
    become attributes of the factory; see docs/how-to/middleware.
    """

    def factory(get_result: Callable[[JobRun], Any]) -> Callable[[JobRun], Any]:
        if iscoroutinefunction(get_result):

            async def amiddleware(run: JobRun) -> Any:
                with enter(run):
                    return await get_result(run)

            return amiddleware

        def middleware(run: JobRun) -> Any:
            with enter(run):
                return get_result(run)

        return middleware

    made: Any = sync_and_async_middleware(factory)
    made.headers, made.around_worker = headers, around_worker
    return made  # type: ignore[no-any-return]


def word_of(outcome: Outcome) -> str:
    """Return an outcome as one word."""
    match outcome:
        case Succeeded():
            return SUCCEEDED
        case Retry():
            return RETRY
        case Failed(discarded=True):
            return DISCARDED
        case Failed():
            return FAILED
        case Cancelled():
            return CANCELLED
        case Released():
            return RELEASED
