"""What a worker process knows of a task: looked up once, then handed over with each claim."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol

from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.payload import dump_result
from aftercommit.enqueue.policy import Policy, policy_of
from aftercommit.enqueue.task import BatchTask, Many, Task, registered
from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import Exponential
from aftercommit.options.conf import BackendOptions
from aftercommit.values import Claim, RunResult
from aftercommit.worker.durations import MeanDuration

if TYPE_CHECKING:
    from aftercommit.worker.runs import Run

# Surrounds what is done for certain runs: they are on the in-flight board meanwhile.
AtWork = Callable[[Sequence["Run"]], AbstractContextManager[None]]


# Of a task whose own policy cannot be built.
LAST_RESORT = Policy(
    backoff=Exponential(),
    retry_on=(),
    discard_on=(),
    atomic=False,
    fuse=False,
    timeout=None,
    max_payload=BackendOptions().max_payload,
)


class GroupRunner(Protocol):
    """Does several runs in one go: in one transaction, or in one call."""

    def accepts(self, run: "Run") -> bool:
        """Tell whether a run may be one of several now."""

    def run(self, runs: Sequence["Run"], at_work: AtWork) -> list[tuple["Run", RunResult]]:
        """Run the first of ``runs``, as many as there is time for, at least one. Never raises."""


@dataclass(slots=True, kw_only=True, eq=False)
class TaskFacts:
    """A task on a backend, as this process runs it."""

    task: Task
    policy: Policy
    is_async: bool
    dump: Callable[[Any], str]  # a return value as JSON text
    many: Many | None  # of a BatchTask
    durations: MeanDuration  # of the task's bodies
    group: GroupRunner | None = None  # may do several runs of the task in one go
    problem: Exception | None = None  # why no run of the task can begin


class Catalogue:
    """The facts of one database alias, by task and backend."""

    def __init__(self, group_of: Callable[[TaskFacts], GroupRunner | None]) -> None:
        self._group_of = group_of
        self._known: dict[tuple[str, str], TaskFacts] = {}

    def facts_of(self, claim: Claim) -> TaskFacts | None:
        """Return what is known of a claim's task; None if this process cannot run it."""
        name = (claim.task_path, claim.backend)
        found = self._known.get(name)
        if found is None and (found := _look_up(claim)) is not None:
            found.group = self._group_of(found)
            self._known[name] = found
        return found


def _look_up(claim: Claim) -> TaskFacts | None:
    task = registered(claim.task_path)
    if task is None or claim.backend not in task_backends.settings:
        return None
    backend = task_backends[claim.backend]
    options = backend.config if isinstance(backend, DatabaseBackend) else BackendOptions()
    return facts_for(task, options)


def facts_for(task: Task, options: BackendOptions) -> TaskFacts:
    """Return the facts of a task on a backend with ``options``."""
    problem = None
    try:
        policy = policy_of(task, options)
    except ConfigurationError as error:  # no run begins: each fails with it, for good
        problem, policy = error, LAST_RESORT
    return TaskFacts(
        task=task,
        policy=policy,
        is_async=iscoroutinefunction(task.func),
        dump=partial(dump_result, task_path=task.module_path, limit=policy.max_payload),
        many=task.many if isinstance(task, BatchTask) else None,
        durations=MeanDuration(),
        problem=problem,
    )
