"""The database's clock, in expressions for the ORM."""

from datetime import timedelta
from typing import Any

from django.db.models import (
    DateTimeField,
    DurationField,
    ExpressionWrapper,
    Func,
    Value,
)
from django.db.models.expressions import Combinable

from aftercommit.options.backoff import LONGEST_WAIT


class DatabaseNow(Func):
    """The present moment by the database's clock, in UTC.

    Not Django's ``Now()``: on MySQL and MariaDB that is CURRENT_TIMESTAMP, which follows
    the time zone of the session, while Django stores UTC. On PostgreSQL it is
    STATEMENT_TIMESTAMP(), because now() there is the start of the transaction.
    """

    output_field = DateTimeField()
    template = "%(function)s"
    function = "STATEMENT_TIMESTAMP()"

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """UTC, in microseconds."""
        return self.as_sql(compiler, connection, function="UTC_TIMESTAMP(6)", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """UTC, in milliseconds, in the form in which Django stores a moment."""
        function = "STRFTIME('%%Y-%%m-%%d %%H:%%M:%%f000', 'NOW')"
        return self.as_sql(compiler, connection, function=function, **context)


def in_future(span: timedelta) -> Combinable:
    """Return the moment ``span`` from now (a negative span lies in the past).

    A span of more than 100 years counts as 100 years: no database could add ``timedelta.max``.
    """
    span = max(min(span, LONGEST_WAIT), -LONGEST_WAIT)
    return ExpressionWrapper(
        DatabaseNow() + Value(span, output_field=DurationField()),
        output_field=DateTimeField(),
    )


def ago(span: timedelta) -> Combinable:
    """Return the moment ``span`` before now; see ``in_future``."""
    return in_future(-min(span, LONGEST_WAIT))
