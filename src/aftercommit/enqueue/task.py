"""aftercommit's ``Task``: Django's, with options for failures, timeout and transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, Self

from asgiref.sync import sync_to_async

from aftercommit._compat import (
    BaseTask,
    InvalidTask,
    TaskResult,
    TaskResultMismatch,
    for_both,
)
from aftercommit.enqueue.batches import call_alone, check_batch
from aftercommit.enqueue.calls import Call
from aftercommit.enqueue.direct import with_our_context
from aftercommit.enqueue.fair import check_fair
from aftercommit.enqueue.limits import check_limit
from aftercommit.enqueue.many import Arguments, enqueue_many
from aftercommit.enqueue.names import check_names, import_path
from aftercommit.enqueue.periodic import check_periodic
from aftercommit.enqueue.rates import check_rate
from aftercommit.enqueue.registry import register, registered
from aftercommit.enqueue.unique import check_unique
from aftercommit.enqueue.variants import not_to_be_varied, variant
from aftercommit.enqueue.versions import Upgrade, check_version
from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import Backoff, BackoffOption, backoff_from
from aftercommit.options.checked import (
    ExceptionTypes,
    check_counts,
    check_flags,
    check_level,
    check_spans,
    exception_types,
)
from aftercommit.options.keep import DEFAULT, KeepOption, check_keep
from aftercommit.options.reads import check_reads
from aftercommit.options.tags import tags_from


@dataclass(frozen=True, slots=True, kw_only=True)
class Task(BaseTask):
    """A Django ``Task`` with the options of this backend; None takes the backend's default.

    ``max_attempts``: runs that may end with an exception, the first one included.
    ``backoff``: the wait between them; a timedelta, a list of them, or a function of the
    number of failed runs. ``retry_on``, ``discard_on``: exception classes (or their
    dotted paths), one or a tuple, that are retried (default: every ``Exception``, and a
    timeout) or never. ``atomic``: run in one transaction with the completion of the job.
    ``timeout``: the longest run. ``unique`` and the options below it: at most one job for calls
    that are alike, see ``enqueue.unique``. ``keep_result``: how long the row is kept after the
    end; here None is a value, and "default" takes the backend's. ``name``: under which jobs are
    stored, instead of the dotted path of the function; ``aliases``: former names.
    ``limit``: how many jobs run at once, of all that have equal values of the arguments
    ``limit_by``; ``ordered``: each begins when the one before has ended.
    ``rate``, ``rate_by``, ``burst``: how often jobs start, of all that have equal values.
    ``tags``: words by which jobs are found again; those of ``using()`` are added.
    ``fair_by``: arguments by whose values jobs take turns.
    ``batch_size``: the function takes a list of up to so many calls; ``batch_wait``: how long a
    worker waits for more of them; ``signature``: a function that takes what a call takes.
    ``version``: of the arguments; ``upgrade`` turns those of a queued call of an earlier version
    into those of this one.
    ``read_from``: a replica, or several, from which the body reads as soon as they have its job.
    ``keep_log``: the level from which on lines of ``logging`` are kept with the job, or "OFF".
    ``cron`` with ``timezone``, or ``every``: when the task is due by itself; with ``catch_up``
    and the options below it for missed moments, for runs that overlap, and for a later start.

    Raises ``ConfigurationError`` for a value that is not possible, ``InvalidTask`` for a
    function that cannot be a task.
    """

    has_our_options = True  # see registry.option(); no annotation, or it would be a field

    max_attempts: int | None = None
    backoff: BackoffOption | None = None
    retry_on: ExceptionTypes | None = None
    discard_on: ExceptionTypes | None = None
    atomic: bool | None = None
    timeout: timedelta | None = None
    unique: str | None = None  # "until_started" or "until_finished"
    unique_by: tuple[str, ...] | None = None  # names of arguments; None: all
    unique_key: str | None = None  # instead of arguments
    on_conflict: str | None = None  # "return", "replace" or "raise"
    debounce: timedelta | None = None
    debounce_max: timedelta | None = None
    keep_result: KeepOption = DEFAULT
    # None becomes the name of the function, which is what Django's tasks have here.
    name: str | None = None  # type: ignore[assignment]
    aliases: Sequence[str] = ()
    limit: int | None = None  # jobs that run at once, of the whole task or with equal limit_by
    limit_by: tuple[str, ...] | None = None  # names of arguments
    ordered: bool | None = None  # one after the other, each to its end
    rate: str | None = None  # "60/m": starts of the whole task, or with equal rate_by
    rate_by: tuple[str, ...] | None = None  # names of arguments
    burst: int | None = None  # starts at once, after a while without any; None: 1
    tags: Sequence[str] = ()
    fair_by: tuple[str, ...] | None = None  # names of arguments, by whose values jobs take turns
    batch_size: int | None = None  # calls of the function's list
    batch_wait: timedelta | None = None  # None: what is there when a thread is free
    signature: Callable[..., Any] | None = None  # None: a call of a batch takes any arguments
    version: int = 1  # of the arguments
    upgrade: Upgrade | None = None  # (version, args, kwargs) -> (args, kwargs)
    read_from: str | Sequence[str] | None = None  # aliases of replicas, or "primary"
    keep_log: str | None = None  # "INFO": what is logged from this level on is kept with the job
    cron: str | None = None  # "0 4 * * *": when the task is due, again and again
    every: timedelta | None = None  # or after each such span
    timezone: str | None = None  # of cron; None: TIME_ZONE
    catch_up: str | None = None  # moments that were missed: "none", "last" or "all"
    catch_up_within: timedelta | None = None  # only those of the last so long
    overlap: str | None = None  # while the job before has not ended: "queue" or "skip"
    jitter: timedelta | None = None  # start up to so much later

    def __post_init__(self) -> None:
        self._check()
        register(self)

    def _check(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", self.func.__name__)
        try:
            check_names(self)
            BaseTask.__post_init__(self)
            _check_options(self)
        except ConfigurationError as error:
            raise ConfigurationError(f"{import_path(self)}: {error}") from error

    @property
    def module_path(self) -> str:
        """The name under which jobs are stored: that of the declaration, or the dotted path."""
        name: str = self.name or ""
        return name if "." in name else import_path(self)

    def using(
        self,
        *,
        priority: int | None = None,
        queue_name: str | None = None,
        run_after: datetime | None = None,
        backend: str | None = None,
        max_attempts: int | None = None,
        unique_key: str | None = None,
        on_conflict: str | None = None,
        tags: Sequence[str] | None = None,
        **others: Any,
    ) -> Self:
        """Return a variant of this task for the calls that follow; ``tags`` are added.

        Raises ``TypeError`` for an option that belongs to the declaration.
        """
        if others:
            raise TypeError(not_to_be_varied(self, others))
        given: dict[str, Any] = {
            "priority": priority,
            "queue_name": queue_name,
            "run_after": run_after,
            "backend": backend,
            "max_attempts": max_attempts,
            "unique_key": unique_key,
            "on_conflict": on_conflict,
            "tags": None if tags is None else (*self.tags, *tags_from(tags)),
        }
        changed = {name: value for name, value in given.items() if value is not None}
        if type(self).__post_init__ is not Task.__post_init__:
            return replace(self, **changed)  # fields of a subclass may follow from others
        made: Self = variant(self, **changed)
        made._check()
        return made

    def bind(self, *args: Any, **kwargs: Any) -> Call:
        """Return a call: this task with arguments, not enqueued.

        Calls may be arguments of other calls, which then wait for them and get their results.
        """
        return Call(self, args, kwargs)

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result of a job of this task; see Django's method."""
        try:
            return BaseTask.get_result(self, result_id)
        except TaskResultMismatch as error:
            raise for_both(error) from None

    async def aget_result(self, result_id: str) -> TaskResult:
        """See ``get_result``."""
        return await sync_to_async(self.get_result)(result_id)

    def call(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here and now, without a job; see Django's method."""
        if self.batch_size is None:
            given, value_of = with_our_context(self, args)
            return value_of(BaseTask.call(self, *given, **kwargs))
        return call_alone(self, args, kwargs)

    async def acall(self, *args: Any, **kwargs: Any) -> Any:
        """See ``call``."""
        if self.batch_size is None:
            given, value_of = with_our_context(self, args)
            return value_of(await BaseTask.acall(self, *given, **kwargs))
        return await sync_to_async(call_alone)(self, args, kwargs)

    def enqueue_many(self, calls: Iterable[Arguments]) -> list[str]:
        """Enqueue one job for each call, all or none; return their ids in order.

        A call is a tuple or list of positional arguments, or a dict of keyword
        arguments. A backend of another library enqueues them one by one.
        """
        return enqueue_many(self, calls)

    async def aenqueue_many(self, calls: Iterable[Arguments]) -> list[str]:
        """See ``enqueue_many``."""
        return await sync_to_async(self.enqueue_many)(calls)

    def __reduce__(self) -> tuple[Any, ...]:
        # By name: a declared task may contain functions that cannot be pickled.
        declared = registered(self.module_path) or self
        changes = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) != getattr(declared, field.name)
        }
        return _unpickled, (self.func.__module__, self.module_path, changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltInTask(Task):
    """A task of aftercommit itself. Rows name it by ``path``, wherever its function is."""

    path: str

    @property
    def module_path(self) -> str:
        """The name under which the task is registered and stored."""
        return self.path


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionTask(BuiltInTask):
    """A task of aftercommit itself whose calls have a backoff of their own."""

    backoff_of: Callable[[str], Backoff]  # by the payload of the call


def _unpickled(module: str, path: str, changes: dict[str, Any]) -> Task:
    try:
        import_module(module)
    except ImportError as error:
        raise ValueError(f"Expected {path!r} to point to a Task instance.") from error
    declared = registered(path)
    if declared is None:
        raise ValueError(f"Expected {path!r} to point to a Task instance.")
    found: Task = replace(declared, **changes)
    return found


def _check_options(task: Task) -> None:
    if task.atomic and iscoroutinefunction(task.func):
        raise for_both(
            InvalidTask(
                f"{task.module_path} is async, and Django's transactions are not: declare it "
                "without atomic=True, or as a plain function."
            )
        )
    if task.backoff is not None:
        backoff_from(task.backoff)
    if task.max_attempts is not None:
        check_counts(max_attempts=task.max_attempts)
    if task.timeout is not None:
        check_spans(timeout=task.timeout)
    if task.atomic is not None:
        check_flags(atomic=task.atomic)
    check_keep("keep_result", task.keep_result)
    for name in ("discard_on", "retry_on"):
        object.__setattr__(task, name, exception_types(name, getattr(task, name)))
    check_version(task)
    check_batch(task)
    check_unique(task)
    check_limit(task)
    check_rate(task)
    object.__setattr__(task, "tags", () if task.tags is None else tags_from(task.tags))
    check_fair(task)
    check_level("keep_log", task.keep_log)
    check_reads(task.read_from, atomic=task.atomic)
    check_periodic(task)
