"""What a worker process knows about a task: looked up once, then passed on with each claim."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Protocol

from aftercommit._compat import BaseTask, task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.payload import dump_result
from aftercommit.enqueue.policy import Policy, policy_of
from aftercommit.enqueue.task import BatchTask, Many
from aftercommit.options.backoff import Exponential
from aftercommit.options.conf import BackendOptions
from aftercommit.values import Claim, RunResult, Succeeded, SucceededAndGone
from aftercommit.worker.durations import MeanDuration

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

    def run(self, runs: Sequence["Run"], at_work: AtWork) -> list[tuple["Run", RunResult]]:
        """Execute the first of ``runs``: at least one, more if there is time. Never raises."""


@dataclass(slots=True, kw_only=True, eq=False)
class TaskFacts:
    """What a run needs to know about its task on one backend."""

    task: BaseTask
    policy: Policy
    is_async: bool
    dump: Callable[[Any], str]  # a return value as JSON text
    many: Many | None  # of a BatchTask
    durations: MeanDuration  # of the task's bodies
    success: type[Succeeded] = Succeeded  # the outcome of a good run
    group: GroupRunner | None = None  # executes several runs of the task together
    problem: Exception | None = None  # why every run of the task fails before its body

    def succeed(self, value: Any) -> Succeeded:
        """Return the outcome of a run that has returned ``value``; raises as ``dump`` does."""
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
    problem = None
    try:
        policy = policy_of(task, options)
    except Exception as error:  # of whatever kind: each run fails with it, for good
        problem, policy = error, LAST_RESORT
    return TaskFacts(
        task=task,
        policy=policy,
        is_async=iscoroutinefunction(task.func),
        dump=partial(
            dump_result,
            task_path=task.module_path,
            limit=policy.max_payload,
            strict=policy.strict_json,
        ),
        many=task.many if isinstance(task, BatchTask) else None,
        durations=MeanDuration(),
        success=Succeeded if policy.keep.succeeded is not None else SucceededAndGone,
        problem=problem,
    )
