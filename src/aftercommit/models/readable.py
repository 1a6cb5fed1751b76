"""Columns that can be read whatever a row holds: one odd value must not hide the other rows.

A database can store moments that Python's ``datetime`` cannot represent: ``infinity`` and the
years before 1 and after 9999 on PostgreSQL, ``0000-00-00`` on MySQL and MariaDB, any text on
SQLite. Drivers raise at such a value, and then no row of the statement can be read.

A migration knows these columns as Django's own: in the database they are the same.
"""

from typing import TYPE_CHECKING, Any

from django.db import models

from aftercommit.values import FIRST_MOMENT, LAST_MOMENT

if TYPE_CHECKING:
    DateTime = models.DateTimeField[Any, Any]
    Uuid = models.UUIDField[Any, Any]
else:
    DateTime, Uuid = models.DateTimeField, models.UUIDField

FIRST, LAST = (moment.isoformat(" ")[:19] for moment in (FIRST_MOMENT, LAST_MOMENT))
MOMENTS = {
    "postgresql": f"CASE WHEN {{0}} < '{FIRST}+00' THEN timestamptz '{FIRST}+00' "
    f"WHEN {{0}} > '{LAST}+00' THEN timestamptz '{LAST}+00' ELSE {{0}} END",
    # A month or a day of zero is possible, and so is the 31st of each month.
    "mysql": f"CASE WHEN {{0}} < TIMESTAMP'{FIRST}' OR MONTH({{0}}) = 0 OR DAYOFMONTH({{0}}) = 0 "
    f"OR DAYOFMONTH({{0}}) > COALESCE(DAYOFMONTH(LAST_DAY({{0}})), 28) THEN TIMESTAMP'{FIRST}' "
    f"WHEN {{0}} > TIMESTAMP'{LAST}' THEN TIMESTAMP'{LAST}' ELSE {{0}} END",
    # date() turns a 30th of February into the 2nd of March, and datetime() reads up to a NUL.
    "sqlite": f"CASE WHEN {{0}} IS NULL THEN NULL WHEN typeof({{0}}) = 'text' "
    f"AND date(substr({{0}}, 1, 10), '+0 days') = substr({{0}}, 1, 10) "
    f"AND datetime({{0}}) IS NOT NULL AND substr({{0}}, 11, 3) GLOB '[ T][0-2][0-9]' "
    f"AND substr({{0}}, 12, 2) < '24' AND length(CAST({{0}} AS BLOB)) = length({{0}}) "
    f"AND substr({{0}}, 1, 10) BETWEEN '{FIRST[:10]}' AND '9999-12-29' "
    f"THEN {{0}} WHEN substr({{0}}, 1, 5) = '9999-' THEN '{LAST}' ELSE '{FIRST}' END",
}
UUIDS = {
    "sqlite": "CASE WHEN typeof({0}) = 'text' AND length({0}) = 32 "
    "AND {0} NOT GLOB '*[^0-9a-fA-F]*' THEN {0} END",
}


def bounded(sql: str, vendor: str) -> str:
    """Return the SQL of a moment so that it lies between ``FIRST_MOMENT`` and ``LAST_MOMENT``."""
    return MOMENTS[vendor].format(sql)


class Moment(DateTime):
    """A moment; what Python cannot represent is read as ``FIRST_MOMENT`` or ``LAST_MOMENT``."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Return the expression that a SELECT reads instead of the column."""
        return _formatted(MOMENTS, compiler, sql, params)

    def deconstruct(self) -> Any:
        """Return Django's own field."""
        return _as_django("DateTimeField", super().deconstruct())


class Identity(Uuid):
    """A UUID; another text, which SQLite can store, is read as None."""

    def select_format(self, compiler: Any, sql: str, params: Any) -> tuple[str, Any]:
        """Return the expression that a SELECT reads instead of the column."""
        return _formatted(UUIDS, compiler, sql, params)

    def deconstruct(self) -> Any:
        """Return Django's own field."""
        return _as_django("UUIDField", super().deconstruct())


def _formatted(
    templates: dict[str, str], compiler: Any, sql: str, params: Any
) -> tuple[str, Any]:
    template = templates.get(compiler.connection.vendor, "{0}")
    return template.format(sql), [*params] * template.count("{0}")


def _as_django(name: str, found: Any) -> Any:
    own_name, _path, args, kwargs = found
    return own_name, f"django.db.models.{name}", args, kwargs
