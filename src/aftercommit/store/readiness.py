"""Whether the database of an alias is ready for a worker; if not, why, in one sentence.

Three things are told apart, because their cures differ: the tables are not migrated, the server
answers and refuses, the server is away.
"""

from enum import Enum
from typing import NamedTuple

from django.apps import apps
from django.db import DatabaseError, Error, connections, models

from aftercommit.printable import one_line, without_passwords
from aftercommit.transient_errors import FATAL, is_for_now

LONGEST_REASON = 300  # characters
NOT_THERE = ("42P01", "42703", 1146, 1054)  # a table, a column: PostgreSQL, MySQL and MariaDB
SQLITE_NOT_THERE = ("no such table", "no such column")


class Unready(Enum):
    """Why a database is not ready; the value is the exit status of a command that says so."""

    NOT_MIGRATED = 3
    REFUSES = 4
    AWAY = 5


class Refusal(NamedTuple):
    """Why a worker cannot work on a database, and what to do."""

    why: Unready
    sentence: str


def refusal_of(alias: str) -> Refusal | None:
    """Return why the database is not ready for a worker; None if nothing is known against it.

    It connects, and asks for all columns of each table. Whether it may write, only the
    ``rehearsal`` knows, or the work.
    """
    try:
        for model in apps.get_app_config("aftercommit").get_models():
            _read(model, alias)
    except Error as error:
        return _refusal(alias, error)
    return None


def away(alias: str, why: str = "no answer") -> Refusal:
    """Return what is said of a database that does not answer."""
    return Refusal(
        Unready.AWAY,
        f"Database {alias!r} is away ({why}): no job can be run before it answers.\n"
        "Start the server, or correct HOST and PORT in DATABASES.",
    )


def _read(model: type[models.Model], alias: str) -> None:
    columns = [field.attname for field in model._meta.concrete_fields]
    # No row, but each column has to be there.
    list(model._base_manager.using(alias).filter(pk__isnull=True).values_list(*columns))


def _refusal(alias: str, error: Error) -> Refusal:
    vendor, name = connections[alias].vendor, type(error).__name__
    # Behind the address that libpq puts before what the server says.
    said = without_passwords(str(error)).strip().rpartition(FATAL)[2].strip()
    said = one_line(said.partition("\n")[0][:LONGEST_REASON])
    if _lacks_a_table(error, vendor):
        return Refusal(
            Unready.NOT_MIGRATED,
            f"Database {alias!r} lacks a table or a column of this version ({said}): no job can "
            f"be run.\nRun 'manage.py migrate --database {alias}'.",
        )
    if is_for_now(error, vendor=vendor):
        return away(alias, name)  # what a driver says may contain the address and the user
    return Refusal(
        Unready.REFUSES,
        f"Database {alias!r} answers and refuses ({name}: {said}): no job can be run.\n"
        "Correct NAME, USER and PASSWORD in DATABASES, or grant the user what is missing.",
    )


def _lacks_a_table(error: Error, vendor: str) -> bool:
    if not issubclass(type(error), DatabaseError):
        return False
    if vendor == "sqlite":
        return str(error).startswith(SQLITE_NOT_THERE)
    cause = error.__cause__ or error
    number = cause.args[0] if cause.args else None
    return getattr(cause, "sqlstate", None) in NOT_THERE or number in NOT_THERE
