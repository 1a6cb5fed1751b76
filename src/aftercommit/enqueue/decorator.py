"""``@task``: declares a function as a task."""

from collections.abc import Callable, Collection, Sequence
from datetime import timedelta
from typing import Any, Literal, overload

from aftercommit._compat import BaseTask, task_backends
from aftercommit.enqueue.task import Task
from aftercommit.enqueue.versions import Upgrade
from aftercommit.options.backoff import BackoffOption
from aftercommit.options.checked import ExceptionOption
from aftercommit.options.keep import DEFAULT, KeepOption


@overload
def task(function: Callable[..., Any]) -> Task: ...
@overload
def task(
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    max_attempts: int | None = None,
    backoff: BackoffOption | None = None,
    retry_on: ExceptionOption | None = None,
    discard_on: ExceptionOption | None = None,
    atomic: bool | None = None,
    timeout: timedelta | None = None,
    unique: Literal["until_started", "until_finished"] | None = None,
    unique_by: Collection[str] | None = None,
    unique_key: str | None = None,
    on_conflict: Literal["return", "replace", "raise"] | None = None,
    debounce: timedelta | None = None,
    debounce_max: timedelta | None = None,
    keep_result: KeepOption = DEFAULT,
    name: str | None = None,
    aliases: Sequence[str] = (),
    limit: int | None = None,
    limit_by: Collection[str] | None = None,
    ordered: bool | None = None,
    rate: str | None = None,
    rate_by: Collection[str] | None = None,
    burst: int | None = None,
    tags: Sequence[str] | None = (),
    version: int = 1,
    upgrade: Upgrade | None = None,
    batch_size: int | None = None,
    batch_wait: timedelta | None = None,
    signature: Callable[..., Any] | None = None,
    keep_log: str | None = None,
    read_from: str | Sequence[str] | None = None,
    fair_by: Collection[str] | None = None,
    cron: str | None = None,
    every: timedelta | None = None,
    timezone: str | None = None,
    catch_up: Literal["none", "last", "all"] | None = None,
    catch_up_within: timedelta | None = None,
    overlap: Literal["queue", "skip"] | None = None,
    jitter: timedelta | None = None,
) -> Callable[[Callable[..., Any]], Task]: ...
def task(
    function: Callable[..., Any] | None = None,
    *,
    priority: int = 0,
    queue_name: str = "default",
    backend: str = "default",
    takes_context: bool = False,
    **options: Any,
) -> Task | Callable[[Callable[..., Any]], Task]:
    """Declare a function as a task: Django's decorator, with the options of ``Task``.

    A backend of another library does not use these options. Raises ``ConfigurationError`` for an
    option that is not possible, ``TypeError`` for an option that does not exist, and
    ``InvalidTask`` for a function that cannot be a task.
    """
    if "run_after" in options:
        raise TypeError(
            "run_after belongs to a call, not to the declaration of a task: "
            "use .using(run_after=...)."
        )

    def declare(func: Callable[..., Any]) -> Task:
        theirs: Any = getattr(task_backends[backend], "task_class", BaseTask)
        # A backend with a task class of its own needs that class.
        task_class: Callable[..., Task] = Task if issubclass(Task, theirs) else theirs
        return task_class(
            func=func,
            priority=priority,
            queue_name=queue_name,
            backend=backend,
            takes_context=takes_context,
            run_after=None,
            **options,
        )

    return declare if function is None else declare(function)
