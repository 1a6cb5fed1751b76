"""What a worker process knows about a task: looked up once, then passed on with each claim."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol, Self

from asgiref.sync import async_to_sync

from aftercommit._compat import BaseTask, task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.payload import dump_result
from aftercommit.enqueue.policy import Policy, policy_of
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.secret import secret_parameters
from aftercommit.enqueue.task import FunctionTask
from aftercommit.enqueue.versions import Upgraded, upgrade_of
from aftercommit.options.backoff import Backoff, Exponential
from aftercommit.options.conf import BackendOptions
from aftercommit.options.secret_keys import SecretKey
from aftercommit.safe_log import log_error
from aftercommit.values import RETURNED_NONE, Claim, RunResult, Succeeded, SucceededAndGone
from aftercommit.worker.durations import MeanDuration
from aftercommit.worker.middleware import Middleware, middleware_of

if TYPE_CHECKING:
    from aftercommit.worker.runs import Run

# A context manager that shows runs on the in-flight board while its block is executed.
AtWork = Callable[[Sequence["Run"]], AbstractContextManager[None]]

# Used for a task whose own policy cannot be built: none of its runs begins.
LAST_RESORT = Policy(
    backoff=Exponential(),
    retry_on=(),
    discard_on=(),
    atomic=False,
    fuse=False,
    timeout=None,
    max_payload=BackendOptions().max_payload,
    strict_json=False,
)


class GroupRunner(Protocol):
    """Executes several runs together: in one transaction, or in one call of the task."""

    def accepts(self, run: "Run") -> bool:
        """Return whether a run may be executed together with other runs now."""

    def most(self, run: "Run") -> int | None:
        """Return how many runs may be executed together with this one, wherever they wait.

        None: a thread's share of those that are next to each other.
        """

    def run(self, runs: Sequence["Run"], at_work: AtWork) -> list[tuple["Run", RunResult]]:
        """Execute the first of ``runs``: at least one, more if there is time. Never raises."""

    async def arun(self, runs: Sequence["Run"], at_work: AtWork) -> list[tuple["Run", RunResult]]:
        """Execute ``runs`` of an async task on the running event loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """How many jobs one call of a function takes."""

    size: int
    wait: float  # seconds that a job waits for others
    weight: float  # of one job in the capacity of a process, where a call is 1

    @classmethod
    def of(cls, size: int | None, wait: timedelta | None) -> Self | None:
        """Return the batches of a task; None: its function takes one job."""
        if size is None:
            return None
        # A power of two: sums and differences of such floats are exact.
        weight = 0.5 ** (size - 1).bit_length()
        return cls(size=size, wait=0.0 if wait is None else wait.total_seconds(), weight=weight)


@dataclass(slots=True, kw_only=True, eq=False)
class TaskFacts:
    """What a run needs to know about its task on one backend."""

    task: BaseTask
    policy: Policy
    is_async: bool
    dump: Callable[[Any], str]  # a return value as JSON text
    durations: MeanDuration  # of the task's bodies
    success: type[Succeeded] = Succeeded  # the outcome of a good run
    group: GroupRunner | None = None  # executes several runs of the task together
    problem: Exception | None = None  # why every run of the task fails before its body
    upgrade: Upgraded | None = None  # of calls of an earlier version
    has_secrets: bool = False  # the function declares parameters as such
    secret_keys: Sequence[SecretKey] = field(default=(), repr=False)
    backoff_of: Callable[[str], Backoff] | None = None  # of a call, by its payload
    batch: Batch | None = None  # the function takes a list of calls
    middleware: Middleware | None = None  # around each call; None: none

    def policy_of(self, claim: Claim) -> Policy:
        """Return how a run is tried again: as its task says, or its call."""
        if self.backoff_of is None:  # as for almost all
            return self.policy
        try:
            return replace(self.policy, backoff=self.backoff_of(claim.payload))
        except Exception as error:  # somebody has changed the row
            log_error("The backoff of a call cannot be read; its task's is used", error=error)
            return self.policy

    @property
    def sync_function(self) -> Callable[..., Any]:
        """The function to call in a thread."""
        return async_to_sync(self.task.func) if self.is_async else self.task.func

    def succeed(self, value: Any) -> Succeeded:
        """Return the outcome of a run that has returned ``value``; raises as ``dump`` does."""
        if value is None:  # of most tasks
            return RETURNED_NONE if self.success is Succeeded else self.success()
        return self.success(self.dump(value))


class Catalogue:
    """The facts of one database alias, by task and backend."""

    def __init__(self, group_of: Callable[[TaskFacts], GroupRunner | None]) -> None:
        self._group_of = group_of
        self._known: dict[tuple[str, str], TaskFacts] = {}

    def facts_of(self, claim: Claim) -> TaskFacts | None:
        """Return the facts of a claim's task; None if this process does not have the task."""
        name = (claim.task_path, claim.backend)
        found = self._known.get(name)
        if found is None and (found := _look_up(claim)) is not None:
            found.group = self._group_of(found)
            found.upgrade = upgrade_of(found.task, claim.task_path)
            self._known[name] = found
        return found


def _look_up(claim: Claim) -> TaskFacts | None:
    task = known_task(claim.task_path)
    if task is None or claim.backend not in task_backends.settings:
        return None
    backend = task_backends[claim.backend]
    options = backend.config if isinstance(backend, DatabaseBackend) else BackendOptions()
    return facts_for(task, options)


def facts_for(task: BaseTask, options: BackendOptions) -> TaskFacts:
    """Return the facts of a task on a backend with ``options``."""
    problem, middleware = None, None
    is_async = iscoroutinefunction(task.func)
    try:
        policy = policy_of(task, options)
        middleware = middleware_of(options, is_async=is_async)
    except Exception as error:  # of whatever kind: each run fails with it, for good
        problem, policy = error, LAST_RESORT
    return TaskFacts(
        task=task,
        policy=policy,
        is_async=is_async,
        dump=partial(
            dump_result,
            task_path=task.module_path,
            limit=policy.max_payload,
            strict=policy.strict_json,
        ),
        durations=MeanDuration(),
        success=Succeeded if policy.keep.succeeded is not None else SucceededAndGone,
        problem=problem,
        has_secrets=bool(secret_parameters(task.func)),
        secret_keys=options.secret_keys,
        backoff_of=task.backoff_of if isinstance(task, FunctionTask) else None,
        batch=Batch.of(option(task, "batch_size"), option(task, "batch_wait")),
        middleware=middleware,
    )
