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
BROKERS = {
    "celery": "aftercommit.importing.celery.Celery",
    "dramatiq": "aftercommit.importing.dramatiq.Dramatiq",
    "rq": "aftercommit.importing.rq.RQ",
}
SOURCES = sorted({*TABLES, *BROKERS})


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
    made = _class_of(name)(place)
    return made


def _class_of(name: str) -> Any:
    try:
        return import_string(BROKERS[name])
    except ImportError as error:
        raise ConfigurationError(
            f"{name} cannot be read here ({error}). Install the package redis."
        ) from error
