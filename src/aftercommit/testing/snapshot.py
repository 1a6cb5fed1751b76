"""What the tables hold, as far as it can be compared between two runs of the same code."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import connections, router
from django.db.models import DateTimeField, Model, TimeField

from aftercommit.errors import ConfigurationError
from aftercommit.models import Job
from aftercommit.stored import without_version

MOST_ROWS = 10_000  # of all tables together
JOBS = "jobs that it has enqueued"
OURS = "aftercommit"
Row = tuple[tuple[str, str], ...]  # names of columns, and values as text
Tables = dict[str, list[dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The rows of all tables, and what recorders have seen."""

    tables: Tables

    def differing_columns(self, other: "Snapshot") -> dict[str, set[str]]:
        """Return the columns whose values are others, by table: nobody can compare them."""
        return {
            table: {
                column
                for column in {name for row in rows for name in row}
                if _values(rows, column) != _values(other.tables.get(table, []), column)
            }
            for table, rows in self.tables.items()
        }

    def differences(
        self, other: "Snapshot", *, without: Mapping[str, Collection[str]]
    ) -> Iterator[str]:
        """Say what ``other`` has more and less than this one, table by table."""
        for table in sorted(self.tables.keys() | other.tables.keys()):
            mine = _rows(self.tables.get(table, []), without.get(table, ()))
            theirs = _rows(other.tables.get(table, []), without.get(table, ()))
            if mine == theirs:
                continue
            yield f"  {table}: {theirs.total():,} instead of {mine.total():,}"
            yield from (f"    + {_shown(row)}" for row in (theirs - mine).elements())
            yield from (f"    - {_shown(row)}" for row in (mine - theirs).elements())


def snapshot(
    models: Mapping[str, Collection[type[Model]]],
    *,
    but: Collection[Any],
    ignore: Collection[str],
    outside: Mapping[str, Sequence[Any]],
) -> Snapshot:
    """Read the tables of models, by database alias, the jobs, and what recorders have seen.

    ``but``: ids of jobs that are left out; ``ignore``: tables, or columns as ``table.column``.
    """
    tables: Tables = {}
    left = MOST_ROWS
    for alias, tables_of in models.items():
        for model in tables_of:
            name = str(model._meta.db_table)
            if name in ignore:
                continue
            rows = list(_read(model, alias, ignore, most=left))
            left -= len(rows)
            tables.setdefault(name, []).extend(rows)
        jobs = Job.objects.using(alias).exclude(id__in=but)
        columns = jobs.values_list("task_path", "payload", "queue")
        tables.setdefault(JOBS, []).extend(
            {"task": without_version(path), "arguments": payload, "queue": queue}
            for path, payload, queue in columns
        )
    for name, seen in outside.items():
        tables[name] = [{"": _text(one)} for one in seen]
    return Snapshot(tables)


def models_of(alias: str) -> Iterator[type[Model]]:
    """Yield the models of the project whose tables are in a database."""
    there = set(connections[alias].introspection.table_names())
    for model in apps.get_models(include_auto_created=True):
        meta = model._meta
        if meta.proxy or not meta.managed or meta.app_label == OURS:
            continue
        if meta.db_table in there and router.allow_migrate_model(alias, model):
            yield model


def _read(
    model: type[Model], alias: str, ignore: Collection[str], *, most: int
) -> Iterator[dict[str, str]]:
    table = model._meta.db_table
    fields = [one for one in model._meta.concrete_fields if f"{table}.{one.column}" not in ignore]
    moments = {one.attname for one in fields if isinstance(one, DateTimeField | TimeField)}
    names = [one.attname for one in fields]
    rows = model._base_manager.using(alias).order_by().values_list(*names)
    found = list(rows[: most + 1])
    if len(found) > most:
        raise ConfigurationError(
            f"assert_effects_once() compares at most {MOST_ROWS:,} rows of all tables, and with "
            f"{table} there are more. Fix: make fewer rows in the test, or pass "
            f"ignore={{{table!r}}} for a table that the task does not write."
        )
    for values in found:
        yield {
            name: ("set" if value is not None else "None") if name in moments else _text(value)
            for name, value in zip(names, values, strict=True)
        }


def _text(value: Any) -> str:
    kind: Any = type(value)
    if kind.__repr__ is object.__repr__:  # it would show where the object is in memory
        return f"a {kind.__name__}"
    return repr(value)


def _values(rows: Sequence[Mapping[str, str]], column: str) -> Counter[str | None]:
    return Counter(row.get(column) for row in rows)


def _rows(rows: Sequence[Mapping[str, str]], without: Collection[str]) -> Counter[Row]:
    kept = (((name, text) for name, text in row.items() if name not in without) for row in rows)
    return Counter(map(tuple, kept))


def _shown(row: Row) -> str:
    return ", ".join(f"{name}={text}" if name else text for name, text in row)
