"""TASKS options and worker settings as frozen, checked values."""

import difflib
import reprlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Self

from aftercommit.errors import ConfigurationError
from aftercommit.options.backoff import (
    LONGEST_WAIT,
    BackoffOption,
    Exponential,
    backoff_from,
)
from aftercommit.options.queues import check_queues

ExceptionTypes = tuple[type[BaseException] | str, ...]  # classes, or their dotted paths
ExceptionOption = type[BaseException] | str | Collection[type[BaseException] | str]
LARGEST_COUNT = 2**31 - 1  # what the columns hold
LONGEST_SPAN = timedelta(days=7)  # of what a worker waits for; the system's waits end at 24 days
MOST_AT_ONCE = 1000  # processes of a worker, threads of a process
USUAL_BACKOFF = Exponential()
POLL_IF_WOKEN = timedelta(seconds=1)  # longest wait for a wake-up that was lost
POLL = timedelta(milliseconds=200)
RELAY_WHEN = ("in_transaction", "always", "never")
RELAY_ONLY, RELAY_TOO, NO_MESSAGES = "only", "too", "no"


class CheckedOptions:
    """What all option values share: built from a mapping, unknown names refused."""

    __slots__ = ()

    @classmethod
    def from_mapping(cls, given: Mapping[str, Any], *, where: str) -> Self:
        """Build the value from ``given``, which was found at ``where``.

        Raises ``ConfigurationError`` for a name that is no option, with the nearest
        one as a suggestion, and for a value that makes no sense.
        """
        if not isinstance(given, Mapping):
            raise ConfigurationError(f"{where}: expected a dict, got {_shown(given)}.")
        known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
        for name in given:
            if name not in known:
                raise _unknown_option(name, known, where=where)
        try:
            return cls(**given)
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions(CheckedOptions):
    """``TASKS[alias]["OPTIONS"]``: the defaults of a backend's tasks, and its table."""

    using: str | None = None  # database alias; None: where the router writes jobs
    # Defaults of the tasks; each can be given to @task as well.
    max_attempts: int = 5  # runs that may end with an exception
    backoff: BackoffOption = USUAL_BACKOFF
    retry_on: ExceptionTypes | None = None  # None: every Exception, and a timeout
    discard_on: ExceptionTypes = ()  # never retried, whatever retry_on says
    atomic: bool = False  # run each task in one transaction with its completion
    timeout: timedelta | None = None  # None: a task may run for ever
    fuse: bool = True  # let short atomic tasks share a commit, each in its savepoint
    # Guards.
    max_crashes: int = 3  # deaths of a process that ran the job alone; see life-of-a-job
    max_payload: int = 1024 * 1024  # bytes of JSON, for arguments and for results
    strict_json: bool = False  # refuse arguments and results that JSON would change
    allowed_functions: tuple[str, ...] | None = None  # None: the installed apps
    # Liveness.
    lease: timedelta = timedelta(seconds=30)  # silence after which a job is taken away
    heartbeat: timedelta = timedelta(seconds=10)  # how often a lease is renewed
    poll_interval: timedelta | None = None  # between looks for jobs; None: see polls_every
    session_locks: bool = True  # False behind PgBouncer in transaction mode
    task_modules: tuple[str, ...] = ()  # imported by the worker, beside <app>.tasks
    skip_task_modules: tuple[str, ...] = ()  # not imported, because they cannot be
    task_packages: tuple[str, ...] = ()  # where tasks are looked for, beside installed apps
    # Messages of other libraries that are kept here: names, or names with their options.
    relay: Collection[str] = ()
    relay_when: str = "in_transaction"  # or "always", or "never"

    def __post_init__(self) -> None:
        if self.using is not None:
            _texts(using=self.using)
        check_counts(
            max_attempts=self.max_attempts,
            max_crashes=self.max_crashes,
            max_payload=self.max_payload,
        )
        check_flags(atomic=self.atomic, fuse=self.fuse, session_locks=self.session_locks)
        check_flags(strict_json=self.strict_json)
        check_spans(LONGEST_SPAN, lease=self.lease, heartbeat=self.heartbeat)
        if self.poll_interval is not None:
            check_spans(LONGEST_SPAN, poll_interval=self.poll_interval)
        if self.timeout is not None:
            check_spans(timeout=self.timeout)
        backoff_from(self.backoff)
        self._accept_lists()
        object.__setattr__(self, "relay", _relay(self.relay))
        if self.relay_when not in RELAY_WHEN:
            raise ConfigurationError(
                f"relay_when: expected one of {', '.join(RELAY_WHEN)}, "
                f"got {_shown(self.relay_when)}."
            )
        if self.lease <= 2 * self.heartbeat:
            raise ConfigurationError(
                f"lease ({self.lease}) must be longer than two heartbeats "
                f"({self.heartbeat} each), or running jobs are given away."
            )

    def polls_every(self, *, woken: bool) -> timedelta:
        """Return how long an idle worker waits; less if nobody wakes it when there is work."""
        return self.poll_interval or (POLL_IF_WOKEN if woken else POLL)

    @property
    def libraries(self) -> Mapping[str, Mapping[str, Any]]:
        """What ``relay`` names, with the options of each."""
        return _relay(self.relay)

    def _accept_lists(self) -> None:
        for name in ("discard_on", "retry_on"):
            object.__setattr__(self, name, exception_types(name, getattr(self, name)))
        if self.discard_on is None:
            object.__setattr__(self, "discard_on", ())
        lists = ("task_modules", "skip_task_modules", "task_packages")
        for name in (*lists, "allowed_functions"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for name in lists:
            if getattr(self, name) is None:
                object.__setattr__(self, name, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig(CheckedOptions):
    """What one worker is told. Built once, at the edge, then only read."""

    backends: tuple[str, ...] = ()  # aliases of TASKS; empty: all that are ours
    queues: tuple[str, ...] = ()  # empty: every queue of the backends
    processes: int = 1
    threads: int = 4  # jobs that one process runs at once
    drain: bool = False  # end when nothing is due
    max_jobs: int | None = None  # end after this many, over all processes
    grace: timedelta = timedelta(seconds=30)  # how long a stop waits for running jobs
    watchdog: timedelta | None = None  # of silent processes; None: the longest lease; 0: none
    fork: bool = True  # let processes be forks of this one, where that is safe
    relay: str = NO_MESSAGES  # whether messages for brokers are published: "only" they, "too"
    crashed: bool = False  # run only jobs that were on a dead worker; else only the others
    only: tuple[str, ...] = ()  # ids of jobs to run; empty: any

    def __post_init__(self) -> None:
        for name in ("backends", "queues", "only"):
            object.__setattr__(self, name, _names(name, getattr(self, name)) or ())
        check_queues(self.queues, where="queues")
        check_counts(MOST_AT_ONCE, processes=self.processes, threads=self.threads)
        if self.max_jobs is not None:
            check_counts(max_jobs=self.max_jobs)
        check_flags(drain=self.drain, fork=self.fork, crashed=self.crashed)
        if self.relay not in (RELAY_ONLY, RELAY_TOO, NO_MESSAGES):
            raise ConfigurationError(
                f"relay: expected only, too or no, got {_shown(self.relay)}."
            )
        check_not_negative(grace=self.grace)
        if self.watchdog is not None:
            check_not_negative(watchdog=self.watchdog)


def check_counts(most: int = LARGEST_COUNT, /, **values: object) -> None:
    """Refuse what is not a whole number from 1 to ``most``, by default what a column holds."""
    for name, value in values.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not 1 <= value <= most:  # type: ignore[operator]
            raise ConfigurationError(
                f"{name}: expected a whole number from 1 to {most:,}, got {_shown(value)}."
            )


def check_flags(**values: object) -> None:
    """Refuse what is neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise ConfigurationError(f"{name}: expected True or False, got {_shown(value)}.")


def check_not_negative(**values: object) -> None:
    """Refuse what is not a span of time that a worker can wait, or zero."""
    for name, value in values.items():
        if not isinstance(value, timedelta) or not timedelta(0) <= value <= LONGEST_SPAN:
            raise ConfigurationError(
                f"{name}: expected a timedelta, not negative, and at most "
                f"{LONGEST_SPAN.days} days, got {_shown(value)}."
            )


def check_spans(longest: timedelta = LONGEST_WAIT, /, **values: object) -> None:
    """Refuse what is not a span of time above zero, or is longer than ``longest``."""
    for name, value in values.items():
        if not isinstance(value, timedelta) or not timedelta(0) < value <= longest:
            raise ConfigurationError(
                f"{name}: expected a timedelta above zero, and at most {longest.days:,} days, "
                f"got {_shown(value)}."
            )


def exception_types(name: str, value: Any) -> ExceptionTypes | None:
    """Return exception classes, or their dotted paths, as a tuple; one may stand alone.

    Raises ``ConfigurationError`` for anything that cannot be one. Whether a path leads to
    an exception class is seen when the task is run, and by a system check.
    """
    if value is None:
        return None
    given = (value,) if isinstance(value, (type, str)) else value
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise _not_exceptions(name, value)
    for one in given:
        if not _is_exception(one) and not (isinstance(one, str) and one.strip()):
            raise _not_exceptions(name, one)
    return tuple(given)


def _is_exception(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def _not_exceptions(name: str, value: object) -> ConfigurationError:
    return ConfigurationError(
        f"{name}: expected an exception class, its dotted path, or a tuple of them, "
        f"got {_shown(value)}."
    )


def _relay(value: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the libraries by name with their options; a list of names means no options."""
    if isinstance(value, Mapping):
        for name, options in value.items():
            if not isinstance(options, Mapping):
                raise ConfigurationError(
                    f"relay[{name!r}]: expected a dict of options, got {_shown(options)}."
                )
        _texts(**{f"relay[{name!r}]": name for name in value})
        return MappingProxyType({name: MappingProxyType(dict(o)) for name, o in value.items()})
    return MappingProxyType({name: MappingProxyType({}) for name in _names("relay", value) or ()})


def _unknown_option(name: object, known: set[str], *, where: str) -> ConfigurationError:
    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else f" Known: {', '.join(sorted(known))}."
    return ConfigurationError(f"{where}: unknown option {_shown(name)}.{hint}")


def _names(name: str, value: Any) -> tuple[str, ...] | None:
    """Accept a list or a tuple; a bare string would be read letter by letter."""
    if value is None:
        return None
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigurationError(f"{name}: expected a list or a tuple, got {_shown(value)}.")
    _texts(**{f"{name}[{index}]": one for index, one in enumerate(value)})
    return tuple(value)


def _texts(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value.strip():
            raise ConfigurationError(f"{name}: expected a name, got {_shown(value)}.")


def _shown(value: object) -> str:
    """Return a value for a sentence; of one with parts the type, as a part may be secret."""
    if value is None or isinstance(value, (str, bytes, int, float, timedelta, type)):
        return reprlib.repr(value)
    return f"a {type(value).__name__}"
