"""Executes an INSERT as a prepared statement, where nobody can tell the difference.

The server parses and plans a prepared statement once for a connection. Only INSERTs are executed
here, because there is nothing to choose in their plans. The plan of a statement that looks for
rows is kept as well, and while the table is empty the best plan is to read all of it: in a test
the plans that were made then took 270 instead of 3 ms for a claim of 100 out of 20,000 new jobs,
until the next ANALYZE.

Django does not prepare statements, for the sake of connection poolers, and it substitutes the
values in Python. So the statement is executed on a cursor of the driver itself. Whoever watches
or changes what Django executes must still see the statement, and is looked for at each call.
"""

from functools import lru_cache
from operator import attrgetter
from types import FunctionType
from typing import Any

import psycopg
from django.apps import apps
from django.db.backends import utils
from django.db.backends.postgresql import base

# Another psycopg may be different inside: then nothing is prepared.
if IS_KNOWN := psycopg.__version__.startswith(("3.2.", "3.3.")):
    from aftercommit.store.postgresql.statements import statements_of

USUAL_THRESHOLD = 5  # psycopg's own: a statement is prepared when it is executed once more
METHODS = attrgetter(
    "cursor.__func__",
    "_cursor.__func__",
    "create_cursor.__func__",
    "_prepare_cursor.__func__",
    "make_cursor.__func__",
)


def execute(connection: Any, sql: str, given: dict[str, Any], *, keep: bool) -> list[Any] | None:
    """Execute an INSERT as a prepared statement and return what it returns.

    None if Django's cursor has to execute it.

    ``keep``: the values are small, so the cursor may be kept with them for the next call.
    Raises the same exceptions as Django's cursor, at the same moments.
    """
    threshold = _threshold(connection)
    if threshold is None or not IS_KNOWN or not _is_plain(connection):
        return None
    connection.close_if_health_check_failed()
    connection.ensure_connection()  # raises in an event loop, and where a test allows no queries
    connection.validate_thread_sharing()
    raw = connection.connection
    statements = statements_of(raw) if _is_of_django(raw) else None
    if statements is None or not statements.are_due(threshold):
        return None
    with connection.wrap_database_errors:
        return statements.execute(raw, sql, given, keep=keep)


def _is_of_django(raw: Any) -> bool:
    """Return whether the driver's connection and its cursors are as Django makes them."""
    factory: object = base.Cursor
    made_by_django = type(raw) is psycopg.Connection and raw.cursor_factory is factory
    return made_by_django and "cursor" not in vars(raw)


def _threshold(connection: Any) -> int | None:
    """Return how many executions come before the first prepared one; None: nothing is prepared.

    By the user's settings: ``DISABLE_SERVER_SIDE_CURSORS`` is Django's word for a pooler.
    """
    settings = connection.settings_dict
    if settings.get("DISABLE_SERVER_SIDE_CURSORS"):
        return None
    threshold: int | None = settings["OPTIONS"].get("prepare_threshold", USUAL_THRESHOLD)
    return threshold


def _is_plain(connection: Any) -> bool:
    """Return whether Django would execute a statement, and nobody would see it.

    If not, its cursor has to be used: by an ``execute_wrapper``, the log of DEBUG, a replaced
    ``cursor()`` (Django's tests, the debug toolbar), a patched ``execute()`` (Sentry), another
    class of connection (django-tenants sets the schema in ``_cursor()``).
    """
    if connection.execute_wrappers or connection.queries_logged:
        return False
    if connection.needs_rollback or not apps.ready:
        return False
    try:
        methods = METHODS(connection)
    except AttributeError:  # not a method of the class
        return False
    wrapper: Any = utils.CursorWrapper
    cursor: Any = base.Cursor
    return _are_originals(
        *methods,
        wrapper.execute,
        wrapper._execute,
        wrapper._execute_with_wrappers,
        cursor.execute,
        psycopg.Connection.cursor,
    )


@lru_cache(maxsize=32)
def _are_originals(*functions: object) -> bool:
    return all(map(_is_original, functions))


def _is_original(function: Any) -> bool:
    """Return whether a function was defined by Django or psycopg, whatever it calls itself."""
    if type(function) is not FunctionType:
        return False
    package = str(function.__globals__["__name__"]).partition(".")[0]
    inner = getattr(function, "__wrapped__", None)  # by Django's async_unsafe
    return package in {"django", "psycopg"} and (inner is None or _is_original(inner))
