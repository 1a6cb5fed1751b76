"""The policy of a task: its own options, and the defaults of its backend."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils.module_loading import import_string

from aftercommit._compat import BaseTask
from aftercommit.enqueue.registry import option
from aftercommit.errors import ConfigurationError, TimedOut
from aftercommit.options.backoff import Backoff, backoff_from
from aftercommit.options.checked import LEVELS, ExceptionTypes
from aftercommit.options.conf import BackendOptions
from aftercommit.options.keep import DEFAULT, USUALLY_KEPT, Keep
from aftercommit.options.reads import REPLICA_WAIT, replicas_in

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
    strict_json: bool
    keep: Keep = USUALLY_KEPT
    read_from: tuple[str, ...] = ()  # replicas; none: the primary
    replica_wait: timedelta = REPLICA_WAIT  # then from the primary
    keep_log: int | None = None  # level from which on lines of ``logging`` are kept; None: none


def policy_of(task: BaseTask, options: BackendOptions) -> Policy:
    """Return the policy of ``task`` on a backend with ``options``.

    A task of another class than ours has no options of its own.

    Raises ``ConfigurationError`` if ``retry_on`` or ``discard_on`` has a path that leads
    to no exception class.
    """

    def chosen(name: str) -> Any:
        own = option(task, name)
        return getattr(options, name) if own is None else own

    retry_on = chosen("retry_on")
    return Policy(
        backoff=backoff_from(chosen("backoff")),
        retry_on=USUALLY_RETRIED if retry_on is None else exception_classes("retry_on", retry_on),
        discard_on=exception_classes("discard_on", chosen("discard_on")),
        atomic=chosen("atomic"),
        fuse=options.fuse,
        timeout=chosen("timeout"),
        max_payload=options.max_payload,
        strict_json=options.strict_json,
        keep=keep_of(task, options),
        read_from=replicas_in(chosen("read_from")),
        replica_wait=options.replica_wait,
        keep_log=LEVELS.get(chosen("keep_log")),
    )


def keep_of(task: BaseTask, options: BackendOptions) -> Keep:
    """Return how long the jobs of ``task`` are kept after their ends."""
    usual = USUALLY_KEPT.changed_by(options.keep_result)
    return usual.changed_by(option(task, "keep_result", DEFAULT))


def goes_with_success(task: BaseTask, options: BackendOptions) -> bool:
    """Return whether the row of a job of ``task`` is deleted as soon as it has succeeded."""
    if option(task, "keep_result", DEFAULT) == DEFAULT == options.keep_result:  # mostly
        return False
    return keep_of(task, options).succeeded is None


def max_attempts_of(task: BaseTask, options: BackendOptions) -> int:
    """Return how many runs of ``task`` may end with an exception."""
    own: int | None = option(task, "max_attempts")
    return options.max_attempts if own is None else own


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
