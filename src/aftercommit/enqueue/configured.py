"""Reads TASKS: the aftercommit backends, their databases, their queues."""

from datetime import timedelta

from django.core.exceptions import ImproperlyConfigured

from aftercommit._compat import task_backends
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.queues import queues_of
from aftercommit.options.rate import rates_in


def our_backends() -> list[DatabaseBackend]:
    """Return the aftercommit backends in TASKS, in their order.

    Raises ``ConfigurationError`` if the options of a backend are impossible.
    """
    configured = map(_backend, task_backends.settings)
    return [backend for backend in configured if isinstance(backend, DatabaseBackend)]


def our_backend(alias: str, *, needed_by: str) -> DatabaseBackend:
    """Return the backend of an alias; raises ``ConfigurationError`` if it is none of ours."""
    backend = task_backends[alias]
    if not isinstance(backend, DatabaseBackend):
        raise ConfigurationError(
            f"{needed_by} needs an aftercommit.DatabaseBackend; TASKS[{alias!r}] is "
            f"{type(backend).__qualname__}."
        )
    return backend


def _backend(alias: str) -> object:
    """Return a backend; None for one that cannot be imported, which is none of ours."""
    try:
        return task_backends[alias]
    except ImproperlyConfigured as error:
        if isinstance(error, ConfigurationError):
            raise
        return None


def job_aliases() -> list[str]:
    """Return the database aliases that hold jobs, each once; some may not exist."""
    return list(dict.fromkeys(backend.using for backend in our_backends()))


def accepts_queue(queue: str, using: str) -> bool:
    """Return whether a backend of a database takes jobs for a queue; one without QUEUES does."""
    declared = [one.queues for one in our_backends() if one.using == using]
    return any(not queues or queue in queues for queues in declared)


def declared_queues(using: str) -> set[str]:
    """Return what is in QUEUES of the backends of a database."""
    return {queue for one in our_backends() if one.using == using for queue in one.queues}


def configured_queues() -> set[str]:
    """Return the queues that TASKS names, with those of the relay."""
    backends = our_backends()
    relayed = {name for backend in backends for name in backend.config.libraries}
    queues = {queue for name in relayed for queue in queues_of(name)}
    return queues.union(*(backend.queues for backend in backends))


def queue_limits(using: str) -> dict[str, int]:
    """Return how many jobs of a queue may run at once in a database, by the settings.

    The lowest of different ones, which a system check refuses.
    """
    found: dict[str, int] = {}
    for backend in our_backends():
        if backend.using == using:
            for queue, most in backend.config.queue_limits.items():
                found[queue] = min(most, found.get(queue, most))
    return found


def queue_rates(using: str) -> dict[str, Rate]:
    """Return how often jobs of a queue may start in a database, by the settings.

    The slowest of different ones, which a system check refuses.
    """
    found: dict[str, Rate] = {}
    for backend in our_backends():
        if backend.using == using:
            for queue, rate in rates_in("queue_rates", backend.config.queue_rates).items():
                found[queue] = max(rate, found.get(queue, rate), key=_slowness)
    return found


def _slowness(rate: Rate) -> tuple[timedelta, int]:
    return rate.interval, -rate.burst
