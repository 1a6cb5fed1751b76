"""The queued calls of other libraries become jobs here; see docs/migrate/."""

from typing import Any

from django.utils.module_loading import import_string

from aftercommit.errors import ConfigurationError
from aftercommit.importing.source import Source
from aftercommit.importing.values import Place

TABLES = {
    "django-background-tasks": (
        "aftercommit.importing.django_background_tasks.DjangoBackgroundTasks"
    ),
    "django-q2": "aftercommit.importing.django_q2.DjangoQ2",
    "django-tasks-db": "aftercommit.importing.django_tasks_db.DjangoTasksDB",
    "procrastinate": "aftercommit.importing.procrastinate.Procrastinate",
}
REDIS, RABBITMQ = "Redis", "RabbitMQ"
BROKERS = {
    ("celery", REDIS): "aftercommit.importing.celery.Celery",
    ("celery", RABBITMQ): "aftercommit.importing.rabbitmq.celery.Celery",
    ("dramatiq", REDIS): "aftercommit.importing.dramatiq.Dramatiq",
    ("dramatiq", RABBITMQ): "aftercommit.importing.rabbitmq.dramatiq.Dramatiq",
    ("rq", REDIS): "aftercommit.importing.rq.RQ",
}
SOURCES = sorted({*TABLES, *(name for name, _broker in BROKERS)})
SCHEMES = {
    "redis": REDIS,
    "rediss": REDIS,
    "unix": REDIS,
    "amqp": RABBITMQ,
    "amqps": RABBITMQ,
    "pyamqp": RABBITMQ,
}
DRIVERS = {
    ("celery", RABBITMQ): "celery",
    ("dramatiq", RABBITMQ): "dramatiq[rabbitmq]",
}


def source_for(name: str, *, using: str, place: Place) -> Source:
    """Return the importer of a library; one that reads a broker connects to it.

    Its module is imported here, because drivers of brokers are optional. Raises
    ``ConfigurationError`` for what it does not take, or if its driver is not installed.
    """
    made: Source
    if name in TABLES:
        if place != Place(url=None):
            raise ConfigurationError(
                f"{name} keeps its queue in a table of the database {using!r}: it takes neither "
                "--url, --queue, --prefix nor --held."
            )
        made = import_string(TABLES[name])(using)
        return made
    if not place.url:
        raise ConfigurationError(
            f"{name} keeps its queue in a broker, and none is named. Give --url, or set the "
            "environment variable AFTERCOMMIT_IMPORT_URL, so that no list of processes shows "
            "the password."
        )
    made = _class_of(name, place.url)(place)
    return made


def _class_of(name: str, url: str) -> Any:
    scheme, separator, _place = url.partition("://")
    scheme = scheme if separator else ""  # without one, it may be a password
    broker = SCHEMES.get(scheme, "")
    if (name, broker) not in BROKERS:
        brokers = " or ".join(sorted(broker for one, broker in BROKERS if one == name))
        schemes = ", ".join(f"{one}://" for one in SCHEMES if (name, SCHEMES[one]) in BROKERS)
        raise ConfigurationError(
            f"The messages of {name} are imported from {brokers} ({schemes}), got an address "
            f"that begins with {scheme!r}. Nothing was imported.\n"
            f"Fix: from other brokers, let the workers of {name} drain its queues."
        )
    try:
        return import_string(BROKERS[name, broker])
    except ImportError as error:
        package = DRIVERS.get((name, broker), "redis")
        raise ConfigurationError(
            f"{name} cannot be read here ({error}). Install the package {package}."
        ) from error
