"""The policy of a task: its own options, and the defaults of its backend."""

from dataclasses import dataclass
from datetime import timedelta

from django.utils.module_loading import import_string

from aftercommit.enqueue.task import Task
from aftercommit.errors import ConfigurationError, TimedOut
from aftercommit.options.backoff import Backoff, backoff_from
from aftercommit.options.conf import BackendOptions, ExceptionTypes

ExceptionClasses = tuple[type[BaseException], ...]
USUALLY_RETRIED: ExceptionClasses = (Exception, TimedOut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How a task is run, and what happens when it fails."""

    backoff: Backoff
    retry_on: ExceptionClasses
    discard_on: ExceptionClasses
    atomic: bool
    fuse: bool
    timeout: timedelta | None
    max_payload: int


def policy_of(task: Task, options: BackendOptions) -> Policy:
    """Return the policy of ``task`` on a backend with ``options``.

    Raises ``ConfigurationError`` if ``retry_on`` or ``discard_on`` has a path that leads
    to no exception class.
    """
    retry_on = options.retry_on if task.retry_on is None else task.retry_on
    discard_on = options.discard_on if task.discard_on is None else task.discard_on
    return Policy(
        backoff=backoff_from(options.backoff if task.backoff is None else task.backoff),
        retry_on=USUALLY_RETRIED if retry_on is None else exception_classes("retry_on", retry_on),
        discard_on=exception_classes("discard_on", discard_on),
        atomic=options.atomic if task.atomic is None else task.atomic,
        fuse=options.fuse,
        timeout=options.timeout if task.timeout is None else task.timeout,
        max_payload=options.max_payload,
    )


def max_attempts_of(task: Task, options: BackendOptions) -> int:
    """Return how many runs of ``task`` may end with an exception."""
    return options.max_attempts if task.max_attempts is None else task.max_attempts


def exception_classes(name: str, given: ExceptionTypes) -> ExceptionClasses:
    """Return the classes of an option; classes that are given by a dotted path are imported.

    Raises ``ConfigurationError`` for a path that leads to no exception class.
    """
    return tuple(_named(name, one) if isinstance(one, str) else one for one in given)


def _named(name: str, path: str) -> type[BaseException]:
    try:
        found = import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"{name}: {path!r} cannot be imported: {error}.") from error
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise ConfigurationError(f"{name}: {path!r} is not an exception class.")
    return found
