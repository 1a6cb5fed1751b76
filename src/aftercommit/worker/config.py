"""Which database aliases a worker serves, and with what settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backends, queue_limits, queue_rates
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.functions import register_function_tasks
from aftercommit.enqueue.retention import archive_of
from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.mail.sending import mail_task
from aftercommit.options.choice import QueueChoice
from aftercommit.options.conf import NO_LIMITS, NO_RATES, BackendOptions
from aftercommit.options.queues import QUEUE_PREFIX, queues_of
from aftercommit.options.worker import RELAY_ONLY, RELAY_TOO, WorkerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One database alias: the queues to serve there, and how."""

    using: str
    queues: QueueChoice | None  # None: every queue that has jobs
    backends: tuple[str, ...]  # aliases in TASKS; empty: all that use this database
    options: BackendOptions  # of the first backend of this alias
    relays: bool  # if it serves every queue: the relay's queues, too
    crashed: bool = False  # True: only jobs with crashes; False: only jobs without
    only: tuple[UUID, ...] | None = None  # claim only these jobs; None: any job
    # By the settings: jobs at once, and starts in a time.
    queue_limits: Mapping[str, int] = field(default_factory=lambda: NO_LIMITS)
    queue_rates: Mapping[str, Rate] = field(default_factory=lambda: NO_RATES)

    def serves(self, queue: str) -> bool:
        """Return whether jobs of a queue are to be run here."""
        if self.queues is None:
            return self.relays or not queue.startswith(QUEUE_PREFIX)
        return queue in self.queues

    @property
    def known_backends(self) -> Sequence[str]:
        """The aliases whose jobs can be run here: never one that TASKS does not name."""
        return self.backends or tuple(task_backends.settings)


def served_backends(wanted: Sequence[str]) -> dict[str, DatabaseBackend]:
    """Return the aftercommit backends in TASKS by alias: all, or the ``wanted`` ones.

    Raises ``ConfigurationError`` for an alias that does not exist or names a backend of
    another library, and when TASKS has no aftercommit backend.
    """
    ours = {backend.alias: backend for backend in our_backends()}
    for alias in wanted:
        if alias not in ours:
            raise ConfigurationError(
                f"--backend {alias}: no aftercommit.DatabaseBackend of this name in TASKS; "
                f"there are: {', '.join(ours) or 'none'}."
            )
    chosen = {alias: ours[alias] for alias in wanted or ours}
    if not chosen:
        raise ConfigurationError(
            "TASKS names no aftercommit.DatabaseBackend, so there is nothing to serve. "
            'Add {"default": {"BACKEND": "aftercommit.DatabaseBackend"}}.'
        )
    return chosen


def served(config: WorkerConfig) -> list[Served]:
    """Return what to serve on each database alias; import every module with tasks.

    Raises ``ConfigurationError`` for options that only a worker needs, too.
    """
    backends = served_backends(config.backends)
    for backend in backends.values():
        discover(backend.config.task_modules)
        register_function_tasks(backend)
        mail_task(backend)
        archive_of(backend.config)
    if config.relay == RELAY_ONLY:
        backends = {alias: one for alias, one in backends.items() if one.config.relay}
        if not backends:
            raise ConfigurationError(
                "There is nothing to relay: no backend of TASKS has OPTIONS['relay'].\n"
                'Fix: add "OPTIONS": {"relay": ["celery"]}, with the libraries you use.'
            )
    aliases = dict.fromkeys(backend.using for backend in backends.values())
    return [_served(using, backends, config) for using in aliases]


def _served(using: str, backends: dict[str, DatabaseBackend], config: WorkerConfig) -> Served:
    here = [backend for backend in backends.values() if backend.using == using]
    names = {name for backend in here for name in backend.queues}
    brokers = {name for backend in here for name in backend.config.relay}
    messages = {queue for name in brokers for queue in queues_of(name)}
    if config.relay == RELAY_ONLY:
        queues: QueueChoice | None = QueueChoice.of(sorted(messages))
    elif config.queues:
        queues = config.choice
        unknown = queues.unused(names | messages)
        if unknown and all(backend.queues for backend in backends.values()):
            everywhere = {name for one in backends.values() for name in one.queues}
            _refuse(queues.unused(names | messages | everywhere), everywhere)
    else:
        names |= messages if config.relay == RELAY_TOO else set()
        every = any(not backend.queues for backend in here)
        queues = None if every else QueueChoice.of(sorted(names))
    return Served(
        using=using,
        queues=None if config.only else queues,
        backends=tuple(backend.alias for backend in here) if config.backends else (),
        options=here[0].config,
        relays=config.relay == RELAY_TOO or bool(config.only),
        crashed=config.crashed,
        only=tuple(UUID(one) for one in config.only) or None,
        queue_limits=queue_limits(using),
        queue_rates=queue_rates(using),
    )


def _refuse(unknown: set[str], known: set[str]) -> None:
    if unknown:
        raise ConfigurationError(
            f"--queues {','.join(sorted(unknown))}: no backend has such a queue; "
            f"QUEUES name: {', '.join(sorted(known))}."
        )
