"""All rows of a database by plain SQL: read, written back, compared."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models

from aftercommit.wording import counted

Row = tuple[Any, ...]
Rows = Mapping[str, Sequence[Row]]  # by table
Schema = Mapping[str, Sequence[str]]  # the columns that can be written, by table

SCHEMAS = {
    "postgresql": """
        SELECT c.table_name, c.column_name FROM information_schema.columns c
        JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = current_schema() AND t.table_type = 'BASE TABLE'
          AND c.is_generated = 'NEVER'
        ORDER BY c.table_name, c.ordinal_position""",
    "mysql": """
        SELECT c.table_name, c.column_name FROM information_schema.columns c
        JOIN information_schema.tables t USING (table_schema, table_name)
        WHERE c.table_schema = DATABASE() AND t.table_type = 'BASE TABLE'
          AND COALESCE(c.generation_expression, '') = ''
        ORDER BY c.table_name, c.ordinal_position""",
    "sqlite": """
        SELECT m.name, c.name FROM sqlite_master m, pragma_table_xinfo(m.name) c
        WHERE m.type = 'table' AND c.hidden = 0 AND m.sql NOT LIKE 'CREATE VIRTUAL%'
        ORDER BY m.name, c.cid""",
}
# Read so that it can be written back as it is: as text, or without a converter of the driver.
READ_AS = {"postgresql": "{}::text", "sqlite": "+{}", "mysql": "{}"}
SAME = {"django_migrations"}  # in every copy


def schema_of(connection: Any) -> Schema:
    """Return the tables of a database and their columns, without generated ones."""
    found: dict[str, list[str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(SCHEMAS[connection.vendor])
        for table, column in cursor.fetchall():
            if table not in SAME:
                found.setdefault(table, []).append(column)
    return found


def read_rows(connection: Any, schema: Schema) -> dict[str, list[Row]]:
    """Return all rows of these tables, as this connection sees them."""
    quote, read_as = connection.ops.quote_name, READ_AS[connection.vendor]
    rows = {}
    with connection.cursor() as cursor:
        for table, columns in schema.items():
            names = ", ".join(read_as.format(quote(one)) for one in columns)
            cursor.execute(f"SELECT {names} FROM {quote(table)}")  # noqa: S608 - names of tables
            rows[table] = [tuple(row) for row in cursor.fetchall()]
    return rows


def write_rows(connection: Any, schema: Schema, wanted: Rows) -> None:
    """Let these tables hold ``wanted``; only those that differ are written."""
    now = read_rows(connection, schema)
    changed = [name for name in schema if Counter(now[name]) != Counter(wanted[name])]
    with connection.constraint_checks_disabled():
        connection.set_autocommit(
            False, force_begin_transaction_with_broken_autocommit=connection.vendor == "sqlite"
        )
        try:
            for table in changed:
                _write_table(connection, table, schema[table], wanted[table])
            connection.commit()
        finally:
            connection.rollback()
            connection.set_autocommit(True)
    _restart_counters(connection, changed)


def _write_table(
    connection: Any, table: str, columns: Sequence[str], rows: Sequence[Row]
) -> None:
    quote = connection.ops.quote_name
    names = ", ".join(map(quote, columns))
    marks = ", ".join(["%s"] * len(columns))
    keep = "OVERRIDING SYSTEM VALUE " if connection.vendor == "postgresql" else ""
    with connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {quote(table)}")  # noqa: S608 - names of tables
        if rows:
            insert = f"INSERT INTO {quote(table)} ({names}) {keep}VALUES ({marks})"
            cursor.executemany(insert, rows)


def _restart_counters(connection: Any, tables: Collection[str]) -> None:
    """Let keys that the database counts go on after the rows that are there."""
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            for table in tables:
                cursor.execute(f"ALTER TABLE {connection.ops.quote_name(table)} AUTO_INCREMENT=1")


def read_sequences(connection: Any) -> list[tuple[str, str, int, bool]]:
    """Return the state of PostgreSQL's sequences: schema, name, value, whether it was used."""
    if connection.vendor != "postgresql":
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT schemaname, sequencename, COALESCE(last_value, start_value), "
            "last_value IS NOT NULL FROM pg_sequences WHERE schemaname = current_schema()"
        )
        return list(cursor.fetchall())


def write_sequences(connection: Any, states: Sequence[tuple[str, str, int, bool]]) -> None:
    """Set sequences to a state."""
    with connection.cursor() as cursor:
        for schema, name, value, used in states:
            cursor.execute(
                "SELECT setval(format('%%I.%%I', %s::text, %s::text)::regclass, %s, %s)",
                [schema, name, value, used],
            )


@dataclass(frozen=True, slots=True)
class Comparable:
    """Which tables and columns are compared, and how."""

    wanted: frozenset[str] | None  # tables; None: all
    ignored: frozenset[str]  # tables, and columns as table.column
    counted: frozenset[str]  # columns with keys from a counter: runs in another order differ
    pointing: frozenset[str]  # columns of which only NULL or not is compared

    def table(
        self, name: str, columns: Sequence[str], rows: Sequence[Row]
    ) -> Counter[Row] | None:
        """Return what is compared of a table, or None."""
        if name in self.ignored or (self.wanted is not None and name not in self.wanted):
            return None
        kept = [
            (number, column, f"{name}.{column}" in self.pointing)
            for number, column in enumerate(columns)
            if f"{name}.{column}" not in self.counted | self.ignored
        ]
        return Counter(
            tuple(
                (column, _set(row[number]) if hidden else row[number])
                for number, column, hidden in kept
            )
            for row in rows
        )


def _set(value: Any) -> str:
    return "NULL" if value is None else "set"


def comparable(
    *, wanted: Collection[type[models.Model]] | None, ignore: Collection[str]
) -> Comparable:
    """Say how tables are compared: moments and references by being set, counted keys not."""
    counted, pointing, ours = {"sqlite_sequence.seq"}, set(), {"sqlite_sequence"}
    for model in apps.get_models(include_auto_created=True):
        table = model._meta.db_table
        if model._meta.app_label == "aftercommit":
            ours.add(table)  # the state of its jobs; what they do is compared
        for field in model._meta.concrete_fields:
            if isinstance(field, models.AutoField | models.BigAutoField):
                counted.add(f"{table}.{field.column}")
            elif isinstance(field, models.ForeignKey | models.DateTimeField | models.TimeField):
                pointing.add(f"{table}.{field.column}")
    return Comparable(
        None if wanted is None else frozenset(one._meta.db_table for one in wanted),
        frozenset({*ignore, *ours}),
        frozenset(counted),
        frozenset(pointing),
    )


def differing_columns(one: Rows, other: Rows, schema: Schema) -> set[str]:
    """Return the columns, as table.column, that differ between two equal runs."""
    return {
        f"{table}.{column}"
        for table, columns in schema.items()
        for number, column in enumerate(columns)
        if Counter(row[number] for row in one[table])
        != Counter(row[number] for row in other[table])
    }


def row_differences(
    how: Comparable, schema: Schema, expected: Rows, found: Rows
) -> Iterator[str]:
    """Say which rows are there and which are missing, table by table."""
    for table, columns in schema.items():
        mine = how.table(table, columns, expected[table])
        theirs = how.table(table, columns, found[table])
        if mine is None or theirs is None or mine == theirs:
            continue
        yield f"{table}: {_sizes(mine.total(), theirs.total())} (+ found, - expected)"
        yield from (f"  + {_shown(row)}" for row in (theirs - mine).elements())
        yield from (f"  - {_shown(row)}" for row in (mine - theirs).elements())


def _sizes(expected: int, found: int) -> str:
    rows = counted(found, "row")
    return f"{rows} with other values" if found == expected else f"{rows} instead of {expected:,}"


def _shown(row: Row) -> str:
    return ", ".join(f"{column}={value!r}"[:80] for column, value in row)
