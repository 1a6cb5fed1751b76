"""``TASKS[alias]["OPTIONS"]`` as a frozen, checked value."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.backoff import BackoffOption, Exponential, backoff_from
from aftercommit.options.checked import (
    LONGEST_SPAN,
    CheckedOptions,
    ExceptionTypes,
    check_counts,
    check_flags,
    check_level,
    check_spans,
    check_texts,
    exception_types,
    names_in,
    shown,
)
from aftercommit.options.functions import FunctionOption, functions_in
from aftercommit.options.keep import DEFAULT, KeepOption, check_keep
from aftercommit.options.queues import LONGEST_NAME, check_queues, is_stored_name, limits_in
from aftercommit.options.rate import rates_in
from aftercommit.options.reads import REPLICA_WAIT, ReadFrom, check_reads
from aftercommit.options.schedules import NO_SCHEDULES, ScheduleOptions, schedules_in
from aftercommit.options.secret_keys import secret_keys_in
from aftercommit.options.unique import check_on_conflict

USUAL_BACKOFF = Exponential()
POLL_IF_WOKEN = timedelta(seconds=1)  # longest wait for a wake-up that was lost
SHORTEST_AGE = timedelta(seconds=1)
POLL = timedelta(milliseconds=200)
# A function, or its dotted path, that gets a list of Job.
ArchiveOption = Callable[[Any], object] | str | None
NO_LIMITS: Mapping[str, int] = MappingProxyType({})
# "60/m", or ("60/m", 10) with a burst; afterwards a Rate.
RateOption = str | tuple[str, int] | Rate
NO_RATES: Mapping[str, Any] = MappingProxyType({})
RELAY_WHEN = ("in_transaction", "always", "never")


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
    keep_result: KeepOption = DEFAULT  # see options.keep.Keep
    age_priority: timedelta | None = None  # due for so long, a job counts one priority higher
    fuse: bool = True  # let short atomic tasks share a commit, each in its savepoint
    on_conflict: str = "return"  # of unique jobs: or "replace", or "raise"
    # Guards.
    max_crashes: int = 3  # deaths of a process that ran the job alone; see life-of-a-job
    max_payload: int = 1024 * 1024  # bytes of JSON, for arguments and for results
    strict_json: bool = False  # refuse arguments and results that JSON would change
    secret_keys: Sequence[Any] = field(default=(), repr=False)  # the first one encrypts
    allowed_functions: tuple[str, ...] | None = None  # None: the installed apps
    # Liveness.
    lease: timedelta = timedelta(seconds=30)  # silence after which a job is taken away
    heartbeat: timedelta = timedelta(seconds=10)  # how often a lease is renewed
    poll_interval: timedelta | None = None  # between looks for jobs; None: see polls_every
    session_locks: bool = True  # False behind PgBouncer in transaction mode
    task_modules: tuple[str, ...] = ()  # imported by the worker, beside <app>.tasks
    skip_task_modules: tuple[str, ...] = ()  # not imported, because they cannot be
    task_packages: tuple[str, ...] = ()  # where tasks are looked for, beside installed apps
    # What is deleted in time, see keep_result.
    keep_received: timedelta = timedelta(days=60)  # the inbox of @once
    keep_audit: timedelta = timedelta(days=365)  # what people have done in the dashboard
    read_from: ReadFrom = None  # replicas from which tasks read once these have their jobs
    replica_wait: timedelta = REPLICA_WAIT  # longest, then tasks read from the primary
    keep_log: str | None = None  # a level: what tasks log from there on is kept with the job
    statistics: bool = True  # keep counts and times of runs, see jobs.statistics()
    archive: ArchiveOption = None  # called with the jobs before they are deleted
    # Functions of the project, or their dotted paths: see docs/how-to/middleware.
    middleware: Sequence[FunctionOption] | FunctionOption = ()  # the first one is outermost
    headers: Sequence[FunctionOption] | FunctionOption = ()  # write headers at enqueue
    # Messages of other libraries that are kept here: names, or names with their options.
    relay: Collection[str] = ()
    relay_when: str = "in_transaction"  # or "always", or "never"
    # Of queues, on all machines: jobs at once, and starts in a time.
    queue_limits: Mapping[str, int] = field(default_factory=lambda: NO_LIMITS)
    queue_rates: Mapping[str, RateOption] = field(default_factory=lambda: NO_RATES)
    # Periodic tasks by the names of their schedules; afterwards a ScheduleOptions each.
    schedules: Mapping[str, Mapping[str, Any] | ScheduleOptions] = field(
        default_factory=lambda: NO_SCHEDULES
    )

    def __post_init__(self) -> None:
        if self.using is not None:
            check_texts(using=self.using)
        check_counts(
            max_attempts=self.max_attempts,
            max_crashes=self.max_crashes,
            max_payload=self.max_payload,
        )
        check_flags(atomic=self.atomic, fuse=self.fuse, session_locks=self.session_locks)
        check_flags(strict_json=self.strict_json, statistics=self.statistics)
        check_spans(LONGEST_SPAN, lease=self.lease, heartbeat=self.heartbeat)
        if self.poll_interval is not None:
            check_spans(LONGEST_SPAN, poll_interval=self.poll_interval)
        if self.timeout is not None:
            check_spans(timeout=self.timeout)
        if self.age_priority is not None:
            check_spans(age_priority=self.age_priority)
            _check_ageing(self.age_priority)
        backoff_from(self.backoff)
        check_on_conflict(self.on_conflict)
        check_keep("keep_result", self.keep_result)
        check_spans(keep_received=self.keep_received, keep_audit=self.keep_audit)
        self._check_kept_and_read()
        self._accept_lists()
        object.__setattr__(self, "relay", _relay(self.relay))
        self._accept_queues()
        if self.relay_when not in RELAY_WHEN:
            raise ConfigurationError(
                f"relay_when: expected one of {', '.join(RELAY_WHEN)}, "
                f"got {shown(self.relay_when)}."
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

    def _check_kept_and_read(self) -> None:
        _check_archive(self.archive)
        check_level("keep_log", self.keep_log)
        check_reads(self.read_from)
        check_spans(LONGEST_SPAN, replica_wait=self.replica_wait)

    def _accept_queues(self) -> None:
        limits = limits_in("queue_limits", self.queue_limits)
        object.__setattr__(self, "queue_limits", limits)
        object.__setattr__(self, "queue_rates", rates_in("queue_rates", self.queue_rates))
        object.__setattr__(self, "schedules", schedules_in("schedules", self.schedules))

    def _accept_lists(self) -> None:
        for name in ("middleware", "headers"):
            object.__setattr__(self, name, functions_in(name, getattr(self, name)))
        object.__setattr__(self, "secret_keys", secret_keys_in(self.secret_keys))
        for name in ("discard_on", "retry_on"):
            object.__setattr__(self, name, exception_types(name, getattr(self, name)))
        if self.discard_on is None:
            object.__setattr__(self, "discard_on", ())
        lists = ("task_modules", "skip_task_modules", "task_packages")
        for name in (*lists, "allowed_functions"):
            object.__setattr__(self, name, names_in(name, getattr(self, name)))
        for name in lists:
            if getattr(self, name) is None:
                object.__setattr__(self, name, ())


def options_of(alias: str, params: Mapping[str, Any]) -> BackendOptions:
    """Return the options of a backend; raises ``ConfigurationError`` for what is wrong in it."""
    where = f"TASKS[{alias!r}]"
    if not is_stored_name(alias):  # its column is like that of the queues
        raise ConfigurationError(
            f"{where}: an alias has 1 to {LONGEST_NAME} printable characters."
        )
    check_queues(params.get("QUEUES", ()), where=f"{where}['QUEUES']")
    return BackendOptions.from_mapping(params.get("OPTIONS", {}), where=f"{where}['OPTIONS']")


def _check_ageing(value: timedelta) -> None:
    if value < SHORTEST_AGE:
        raise ConfigurationError(
            f"age_priority: expected at least {SHORTEST_AGE.seconds} s, got {shown(value)}: "
            "every job would soon be as urgent as any other."
        )


def _check_archive(value: Any) -> None:
    if value is None or callable(value) or (isinstance(value, str) and "." in value):
        return
    raise ConfigurationError(
        "archive: expected a function that takes a list of jobs, or its dotted path, "
        f"got {shown(value)}."
    )


def _relay(value: Any) -> Mapping[str, Mapping[str, Any]]:
    """Return the libraries by name with their options; a list of names means no options."""
    if isinstance(value, Mapping):
        for name, options in value.items():
            if not isinstance(options, Mapping):
                raise ConfigurationError(
                    f"relay[{name!r}]: expected a dict of options, got {shown(options)}."
                )
        check_texts(**{f"relay[{name!r}]": name for name in value})
        return MappingProxyType({name: MappingProxyType(dict(o)) for name, o in value.items()})
    return MappingProxyType(
        {name: MappingProxyType({}) for name in names_in("relay", value) or ()}
    )
