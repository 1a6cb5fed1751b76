"""Columns, indexes and constraints that mean the same on every database."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.db import models
from django.db.models.functions import Now

from aftercommit.options.tags import stored_tags
from aftercommit.stored import read_tags

if TYPE_CHECKING:
    Text = models.CharField[str, str]
    Number = models.PositiveIntegerField[Any, Any]
    Json = models.JSONField[Any, Any]
    LongText = models.TextField[Any, Any]
else:
    Text, Number, Json = models.CharField, models.PositiveIntegerField, models.JSONField
    LongText = models.TextField


class Name(Text):
    """A text that is compared by its bytes, as PostgreSQL and SQLite do anyway.

    MySQL and MariaDB would compare it without regard to case, by the database's collation.
    """

    def db_parameters(self, connection: Any) -> Any:
        """Add the collation."""
        found = super().db_parameters(connection)
        return {**found, "collation": "utf8mb4_bin"} if connection.vendor == "mysql" else found


class Count(Number):
    """A counter without a CHECK constraint of its own.

    The store only adds to it, or subtracts what a claim has added before; each such check
    cost two microseconds of an INSERT.
    """

    def db_check(self, connection: Any) -> None:
        """Return no constraint."""


class JSONOrText(Json):
    """JSON that reads as its text where Python cannot read it.

    The databases accept numbers that are too long for Python, and values that nest deeper. One
    such row must not make the lists of all others unreadable.
    """

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        """Return the value, or its text."""
        try:
            return super().from_db_value(value, expression, connection)
        except (ValueError, RecursionError):
            return value

    def deconstruct(self) -> Any:
        """Return Django's field: the column is the same."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.JSONField", args, kwargs


class PartialIndex(models.Index):
    """An index with a condition; where the database has none, the whole index.

    MySQL and MariaDB know no partial indexes, and Django leaves such an index out
    there. ``leading`` names the columns that stand in for the condition. The whole index has
    no descending column: MariaDB would not jump from group to group in it.
    """

    def __init__(self, *expressions: Any, leading: tuple[str, ...] = (), **kwargs: Any) -> None:
        self.leading = tuple(leading)
        super().__init__(*expressions, **kwargs)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        """Add ``leading`` to what a migration needs to know."""
        path, expressions, kwargs = super().deconstruct()
        return path, expressions, {**kwargs, "leading": self.leading}

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """Return the statement, without the condition where it is not understood."""
        if schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using=using, **kwargs)
        names = [*self.leading, *(name for name, _order in self.fields_orders)]
        whole = models.Index(fields=names, name=self.name)
        return whole.create_sql(model, schema_editor, using=using, **kwargs)


class Tags(LongText):
    """A list of texts, as JSON text; NULL: none. What is no such list reads as one text of it."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> list[str]:
        """Return the list."""
        return read_tags(value)

    def get_prep_value(self, value: Any) -> str | None:
        """Return the text of a list."""
        return value if value is None or isinstance(value, str) else stored_tags(value)

    def deconstruct(self) -> Any:
        """Return Django's field: the column is the same."""
        name, _path, args, kwargs = super().deconstruct()
        return name, "django.db.models.TextField", args, kwargs


class UtcNow(Now):
    """The present moment as a default of a column, in UTC as Django stores it.

    Django's ``Now()`` is CURRENT_TIMESTAMP on MySQL and MariaDB, which is local time there.
    """

    def as_mysql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        """UTC, in microseconds."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **context)


class UniqueByBytes(models.UniqueConstraint):
    """Unique by the bytes of text columns, as PostgreSQL and SQLite compare them anyway.

    On MySQL and MariaDB, where a collation may take ``a``, ``A`` and ``a`` with a space for the
    same, or any two emoji, a hash of the columns is unique. The server computes it, so it can be
    added while programs use the table, and programs that do not know it obey it.
    """

    KEY = "bytes_key"

    def key_sql(self, schema_editor: Any) -> str:
        """Return the definition of the generated column."""
        quote = schema_editor.connection.ops.quote_name
        texts = ", 0x00, ".join(f"CAST({quote(one)} AS BINARY)" for one in self.fields)
        return f"{self.KEY} binary(32) AS (UNHEX(SHA2(CONCAT({texts}), 256))) VIRTUAL"

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        """Return the clause for CREATE TABLE, with the column where it is needed."""
        if schema_editor.connection.vendor != "mysql":
            return super().constraint_sql(model, schema_editor)
        return f"{self.key_sql(schema_editor)}, CONSTRAINT {self.name} UNIQUE ({self.KEY})"


class UniqueWhenSet(models.UniqueConstraint):
    """Unique among rows where the fields are set.

    Everywhere the NULLs of a unique index are distinct, so where the database knows no
    partial index the whole one means the same and is only larger.
    """

    def create_sql(self, model: Any, schema_editor: Any) -> Any:
        """Return the statement, without the condition where it is not understood."""
        return self._portable(schema_editor).create_sql(model, schema_editor)

    def constraint_sql(self, model: Any, schema_editor: Any) -> Any:
        """Return the clause for CREATE TABLE."""
        return self._portable(schema_editor).constraint_sql(model, schema_editor)

    def remove_sql(self, model: Any, schema_editor: Any) -> Any:
        """Return the statement that takes it away."""
        return self._portable(schema_editor).remove_sql(model, schema_editor)

    def _portable(self, schema_editor: Any) -> models.UniqueConstraint:
        partial = schema_editor.connection.features.supports_partial_indexes
        condition = self.condition if partial else None
        return models.UniqueConstraint(fields=self.fields, name=self.name, condition=condition)
