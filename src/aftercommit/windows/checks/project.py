"""Checks of the settings, mainly of TASKS; they need no database."""

from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from itertools import combinations
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import connections, router

from aftercommit._compat import BaseTaskBackend
from aftercommit.enqueue.backend import DatabaseBackend
from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.policy import exception_classes
from aftercommit.enqueue.registry import declared_tasks, option
from aftercommit.errors import ConfigurationError
from aftercommit.gcra import Rate
from aftercommit.options.checked import ExceptionTypes
from aftercommit.options.functions import imported
from aftercommit.options.queues import queues_of
from aftercommit.printable import without_passwords
from aftercommit.relay.brokers import broker_for, check_options

BACKPORT = "django_tasks"
# A worker rescues and renews for a whole alias, so it can have only one value of each option.
OF_AN_ALIAS = (
    "lease",
    "heartbeat",
    "poll_interval",
    "max_crashes",
    "session_locks",
    "statistics",
)


def check_project(**_kwargs: Any) -> list[CheckMessage]:
    """Check the settings of the aftercommit backends."""
    backends = our_backends()
    if mistakes := [one.mistake for one in backends if one.mistake is not None]:
        return [_mistake(one) for one in mistakes]
    if not backends:
        return []
    return [
        *_backport_app(),
        *_time_zones(),
        *(message for backend in backends for message in _backend(backend)),
        *_exceptions_of_tasks(),
        *_shared_aliases(backends),
        *_shared_libraries(backends),
        *_queue_limits(backends),
    ]


def _mistake(error: ConfigurationError) -> CheckMessage:
    return Error(
        f"{error}".rstrip(), hint="Correct TASKS in the settings.", id="aftercommit.E015"
    )


def _backport_app() -> Iterator[CheckMessage]:
    if BaseTaskBackend.__module__.startswith(BACKPORT) and not apps.is_installed(BACKPORT):
        yield Warning(
            "Tasks come from the django-tasks backport, but 'django_tasks' is not in "
            "INSTALLED_APPS, so its own checks of TASKS are not run.",
            hint="Add 'django_tasks' to INSTALLED_APPS.",
            id="aftercommit.W001",
        )


def _time_zones() -> Iterator[CheckMessage]:
    if not settings.USE_TZ:
        yield Error(
            "USE_TZ is False. The database's clock decides in UTC what is due; moments without "
            "a time zone would be hours early or late.",
            hint="Set USE_TZ = True.",
            id="aftercommit.E006",
        )


def _backend(backend: DatabaseBackend) -> Iterator[CheckMessage]:
    where = f"TASKS[{backend.alias!r}]"
    if backend.using in connections:
        yield from _router(backend.using, where)
    else:
        yield Error(
            f"{where} keeps its jobs in database {without_passwords(repr(backend.using))}, which "
            "is not in DATABASES.",
            hint=f"Set OPTIONS['using'] to one of: {', '.join(connections)}.",
            id="aftercommit.E009",
        )
    options = backend.config
    if options.secret_keys and find_spec("cryptography") is None:
        yield Error(
            f"{where}['OPTIONS'] has secret_keys, and the package cryptography is not installed: "
            "no Secret could be enqueued, and jobs that have some would fail.",
            hint="pip install 'aftercommit[secrets]'.",
            id="aftercommit.E016",
        )
    yield from _relay(backend, f"{where}['OPTIONS']['relay']")
    for module in options.task_modules:
        yield from _module(module, f"{where}['OPTIONS']['task_modules']")
    for name, given in (("retry_on", options.retry_on), ("discard_on", options.discard_on)):
        yield from _exceptions(name, given, f"{where}['OPTIONS']")
    yield from _functions(backend, f"{where}['OPTIONS']")


def _relay(backend: DatabaseBackend, where: str) -> Iterator[CheckMessage]:
    for name, options in backend.config.libraries.items():
        try:
            check_options(name, options)
            problem = broker_for(name).problem()
        except ConfigurationError as error:
            yield _mistake(error)
            continue
        if problem:
            what, _, fix = problem.partition(". ")
            yield Warning(
                f"{where} names {name!r}, but the settings do not say {what}: its messages "
                "would be stored, and never published.",
                hint=f"{fix}.",
                id="aftercommit.W007",
            )


def _router(using: str, where: str) -> Iterator[CheckMessage]:
    # By name: this module is imported before the models.
    if not router.allow_migrate_model(using, apps.get_model("aftercommit", "Job")):
        yield Error(
            f"{where} keeps its jobs in database {using!r}, but DATABASE_ROUTERS do not allow "
            "aftercommit's tables there, so migrate leaves them out and every enqueue fails.",
            hint=f"Let allow_migrate({using!r}, 'aftercommit') return True, or set "
            "OPTIONS['using'] to another database.",
            id="aftercommit.E012",
        )


def _module(name: str, where: str) -> Iterator[CheckMessage]:
    try:
        import_module(name)
    except ImportError as error:
        yield _not_importable(f"{where} names {name!r}, which cannot be imported: {error}.")


def _functions(backend: DatabaseBackend, where: str) -> Iterator[CheckMessage]:
    for name in ("middleware", "headers"):
        try:
            imported(name, getattr(backend.config, name))
        except ConfigurationError as error:
            yield _not_importable(f"{where}: {error}")


def _exceptions_of_tasks() -> Iterator[CheckMessage]:
    for task in declared_tasks():
        for name in ("retry_on", "discard_on"):
            yield from _exceptions(name, option(task, name), f"@task of {task.module_path}")


def _exceptions(name: str, given: ExceptionTypes | None, where: str) -> Iterator[CheckMessage]:
    try:
        exception_classes(name, given or ())
    except ConfigurationError as error:
        yield _not_importable(f"{where}: {error}")


def _not_importable(what: str) -> CheckMessage:
    return Error(
        f"{what} Its jobs would fail, or wait for ever.",
        hint="Correct the dotted path, or install what it needs.",
        id="aftercommit.E010",
    )


def _shared_aliases(backends: list[DatabaseBackend]) -> Iterator[CheckMessage]:
    for first, second in combinations(backends, 2):
        different = [
            name
            for name in OF_AN_ALIAS
            if getattr(first.config, name) != getattr(second.config, name)
        ]
        if different and first.using == second.using:
            yield Warning(
                f"TASKS[{first.alias!r}] and TASKS[{second.alias!r}] keep their jobs in one "
                f"database, {first.using!r}, but differ in {', '.join(different)}. A worker "
                f"looks after a whole database and takes them from {first.alias!r}.",
                hint="Give both the same values, or each a database of its own.",
                id="aftercommit.W006",
            )


def _shared_libraries(backends: list[DatabaseBackend]) -> Iterator[CheckMessage]:
    for first, second in combinations(backends, 2):
        ways, others = _ways_to_relay(first), _ways_to_relay(second)
        different = sorted(
            name for name in ways.keys() & others.keys() if ways[name] != others[name]
        )
        if different:
            yield Warning(
                f"TASKS[{first.alias!r}] and TASKS[{second.alias!r}] relay "
                f"{', '.join(different)} with different options or another relay_when. A process "
                "sends all messages of a library in one way, and takes it from one of the two.",
                hint="Give both the same.",
                id="aftercommit.W009",
            )


def _ways_to_relay(backend: DatabaseBackend) -> dict[str, tuple[Any, ...]]:
    config = backend.config
    return {name: (options, config.relay_when) for name, options in config.libraries.items()}


def _queue_limits(backends: list[DatabaseBackend]) -> Iterator[CheckMessage]:
    for name in ("queue_limits", "queue_rates"):
        for backend in backends:
            yield from _unknown_queues(backend, name)
        for first, second in combinations(backends, 2):
            if first.using == second.using:
                yield from _differing_limits(first, second, name)


def _unknown_queues(backend: DatabaseBackend, name: str) -> Iterator[CheckMessage]:
    known = backend.queues | {
        queue for broker in backend.config.libraries for queue in queues_of(broker)
    }
    unknown = sorted(getattr(backend.config, name).keys() - known)
    if backend.queues and unknown:
        yield Warning(
            f"TASKS[{backend.alias!r}]['OPTIONS'][{name!r}] names {unknown[0]!r}, "
            "which is no queue of this backend: it limits nothing.",
            hint=f"Write one of: {', '.join(sorted(known))}.",
            id="aftercommit.W016",
        )


def _differing_limits(
    first: DatabaseBackend, second: DatabaseBackend, name: str
) -> Iterator[CheckMessage]:
    limits, others = getattr(first.config, name), getattr(second.config, name)
    for queue in sorted(limits.keys() & others.keys()):
        if limits[queue] != others[queue]:
            yield Error(
                f"TASKS[{first.alias!r}] and TASKS[{second.alias!r}] keep their jobs in one "
                f"database, {first.using!r}, and limit its queue {queue!r} to "
                f"{_shown(limits[queue])} and to {_shown(others[queue])}. A queue has one limit.",
                hint=f"Give both the same in {name}, or name the queue in one of them only.",
                id="aftercommit.E014",
            )


def _shown(limit: int | Rate) -> str:
    if isinstance(limit, Rate):
        return f"one start in {limit.interval} with a burst of {limit.burst:,}"
    return f"{limit:,}"
