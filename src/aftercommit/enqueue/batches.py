"""Batches: many jobs of a task in one call of its function."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from inspect import Signature, iscoroutinefunction, signature
from typing import Any, NamedTuple

from asgiref.sync import async_to_sync

from aftercommit.enqueue.outcomes import Retry, Snooze
from aftercommit.errors import ConfigurationError, PayloadError
from aftercommit.options.checked import check_counts, check_spans, shown

LARGEST_BATCH = 1000  # jobs
LONGEST_WAIT = timedelta(seconds=10)
NEED_SIZE = ("batch_wait", "signature")
# What counts or orders single jobs, and could never let a batch become full.
ONE_BY_ONE = ("limit", "ordered")


class End(NamedTuple):
    """How one call of a batch ends, as the function has said."""

    error: BaseException | None
    value: Any = None


GOOD = End(None)


class BatchCall:
    """One of the calls that the function of a task with ``batch_size`` receives.

    A call that the function says nothing about ends as the function does: well if it returns,
    with its exception if it raises. The last of ``succeed``, ``fail``, ``retry`` and ``snooze``
    counts.
    """

    __slots__ = ("args", "attempt", "end", "kwargs")

    def __init__(self, args: list[Any], kwargs: dict[str, Any], *, attempt: int = 1) -> None:
        self.args = args
        self.kwargs = kwargs
        self.attempt = attempt  # 1 for the first run
        self.end: End | None = None  # None: that of the function

    def __repr__(self) -> str:
        return f"<BatchCall {self.job_id}>"  # arguments may be secret

    @property
    def job_id(self) -> str:
        """The id of this job, the same in every attempt; empty in a direct call."""
        return ""

    @property
    def context(self) -> Any:
        """The ``JobContext`` of this job, as ``takes_context`` gives it to other tasks."""
        raise ConfigurationError(
            "call.context is there while a worker runs the batch. This task was called directly."
        )

    @property
    def cancelled(self) -> bool:
        """Whether this job should stop: it is cancelled, or its claim is lost."""
        return False

    def succeed(self, value: Any = None) -> None:
        """End this job well, with a result, even if the function raises later.

        In an atomic task an exception undoes this as well.
        """
        self.end = End(None, value)

    def fail(self, error: BaseException) -> None:
        """End this run as if the function had raised ``error`` for this job alone.

        So it is retried as its task says; with ``Discard`` never.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"call.fail(): expected an exception, got {shown(error)}.")
        self.end = End(error)

    def retry(self, delay: timedelta | None = None) -> None:
        """Run this job again after ``delay``, as a failed attempt; see ``Retry``."""
        self.fail(Retry(delay))

    def snooze(self, delay: timedelta) -> None:
        """Run this job again after ``delay``, without counting the attempt; see ``Snooze``."""
        self.fail(Snooze(delay))


def take_returned(calls: Sequence[BatchCall], returned: Any, *, task_path: str) -> None:
    """Give the calls that have no end yet what the function has returned.

    None for all, or a list of one result for each call, in their order. Raises ``PayloadError``
    for anything else: it is not known whose result it is.
    """
    if returned is not None and (
        not isinstance(returned, (list, tuple)) or len(returned) != len(calls)
    ):
        what = (
            f"{len(returned)} of them" if isinstance(returned, (list, tuple)) else shown(returned)
        )
        problem = (
            f"expected None or a list of {len(calls)} results, one for each call, got {what}"
        )
        raise PayloadError(path="return value", problem=problem, task_path=task_path)
    if not returned:
        returned = [None] * len(calls)
    for call, value in zip(calls, returned, strict=True):
        if call.end is None:
            call.end = GOOD if value is None else End(None, value)


def call_alone(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Call the function of a batch task with one call, here and now; return its result."""
    call = BatchCall(list(args), dict(kwargs))
    function = async_to_sync(task.func) if iscoroutinefunction(task.func) else task.func
    return result_of_one(call, function([call]), task_path=task.module_path)


def result_of_one(call: BatchCall, returned: Any, *, task_path: str) -> Any:
    """Return the result of a single call, or raise its error."""
    take_returned([call], returned, task_path=task_path)
    end = call.end or End(None)
    if end.error is not None:
        raise end.error
    return end.value


# ---- the options of a task -------------------------------------------------------------


def check_batch(task: Any) -> None:
    """Check the options of a task about batches; raises ``ConfigurationError``."""
    if task.batch_size is None:
        for name in NEED_SIZE:
            if getattr(task, name) is not None:
                raise ConfigurationError(
                    f"{name} is about the calls of a batch, and this task has none: add "
                    f"batch_size=... to its declaration, or leave {name} out."
                )
        return
    check_counts(batch_size=task.batch_size)
    if task.batch_size > LARGEST_BATCH:
        raise ConfigurationError(
            f"batch_size: at most {LARGEST_BATCH:,} jobs are run by one call, got "
            f"{task.batch_size:,}."
        )
    if task.batch_wait is not None:
        check_spans(batch_wait=task.batch_wait)
        if task.batch_wait > LONGEST_WAIT:
            raise ConfigurationError(
                f"batch_wait: a worker holds jobs for {LONGEST_WAIT} at most to fill a batch, "
                f"got {task.batch_wait}."
            )
    _check_others(task)
    _check_function(task)


def _check_others(task: Any) -> None:
    for name in ONE_BY_ONE:
        if getattr(task, name):
            raise ConfigurationError(
                f"{name} is about single jobs, and would keep batches from becoming full: leave "
                f"{name} or batch_size out. To bound how many batches run at once, give the task "
                "a queue of its own, and a worker for it with --threads."
            )
    if task.takes_context:
        raise ConfigurationError(
            "takes_context: the function of a task with batch_size takes the list of calls, and "
            "each has a context of its own, call.context. Leave takes_context out."
        )
    if task.signature is not None and not callable(task.signature):
        raise ConfigurationError(
            f"signature: expected a function that takes what a call takes, got "
            f"{shown(task.signature)}."
        )


def _check_function(task: Any) -> None:
    try:
        found: Signature = signature(task.func)
    except (TypeError, ValueError):  # one in C does not say
        return
    try:
        found.bind([])
    except TypeError:
        raise ConfigurationError(
            f"batch_size: the function of such a task takes one argument, the list of calls: "
            f"def {task.func.__name__}(calls). This one is declared as "
            f"{task.func.__name__}{found}."
        ) from None
