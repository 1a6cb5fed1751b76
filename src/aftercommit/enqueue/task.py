"""aftercommit's ``Task``: Django's, with options for failures, timeout and transaction."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from importlib import import_module
from inspect import iscoroutinefunction
from typing import Any, Protocol, Self

from asgiref.sync import sync_to_async

from aftercommit._compat import (
    BaseTask,
    InvalidTask,
    TaskResult,
    TaskResultMismatch,
    for_both,
)
from aftercommit.enqueue.fair import check_fair
from aftercommit.enqueue.limits import check_limit
from aftercommit.enqueue.many import Arguments, enqueue_many
from aftercommit.enqueue.names import check_names, import_path
from aftercommit.enqueue.rates import check_rate
from aftercommit.enqueue.registry import FIXED, register, registered
from aftercommit.enqueue.unique import check_unique
from aftercommit.enqueue.variants import variant
from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import BackoffOption, backoff_from
from aftercommit.options.checked import (
    ExceptionTypes,
    check_counts,
    check_flags,
    check_spans,
    exception_types,
)
from aftercommit.options.keep import DEFAULT, KeepOption, check_keep
from aftercommit.options.tags import tags_from


class Report(Protocol):
    """Reports how one of several calls ended: the exception that it raised, or its value."""

    def __call__(self, number: int, error: BaseException | None, value: Any = None) -> None: ...


Many = Callable[[Sequence[dict[str, Any]], Report], None]


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
            raise TypeError(_fixed_by_declaration(self, others))
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

    def get_result(self, result_id: str) -> TaskResult:
        """Return the result of a job of this task; see Django's method."""
        try:
            return BaseTask.get_result(self, result_id)
        except TaskResultMismatch as error:
            raise for_both(error) from None

    async def aget_result(self, result_id: str) -> TaskResult:
        """See ``get_result``."""
        return await sync_to_async(self.get_result)(result_id)

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
class BatchTask(BuiltInTask):
    """A task of aftercommit itself that can run several jobs in one call.

    ``many`` receives the keyword arguments of each job, and reports how a job ended as soon
    as this is known. If ``many`` raises, that is the end of the jobs that it has not reported.
    """

    many: Many


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
    check_unique(task)
    check_limit(task)
    check_rate(task)
    object.__setattr__(task, "tags", () if task.tags is None else tags_from(task.tags))
    check_fair(task)


def _fixed_by_declaration(task: Task, others: Iterable[str]) -> str:
    known = {field.name for field in fields(task)} - {"func"}
    wrong = sorted(set(others) - known)
    if wrong:
        return f"{task.module_path}: using() has no option {wrong[0]!r}."
    name = min(others)
    why = "the worker takes it from" if name in FIXED else "it belongs to"
    return (
        f"{task.module_path}: {name!r} cannot vary from call to call, because {why} "
        f"the declaration: write @task({name}=...) there."
    )
