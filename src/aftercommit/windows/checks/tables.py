"""Checks of our tables, as they are in the database, against the models."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder
from django.db.models import UniqueConstraint, UUIDField

from aftercommit.store import STORES

APP = "aftercommit"
INVALID = """
SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = %s::regclass AND NOT indisvalid
"""
TYPES = """
SELECT table_name, column_name, is_nullable FROM information_schema.columns
WHERE table_schema = DATABASE() AND data_type = %s AND table_name IN ({marks})
"""


def tables_of(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Check the tables of one database, once all migrations are applied there."""
    if database.vendor not in STORES or not _are_migrated(database):
        return
    yield from _indexes(database)
    if database.vendor == "mysql" and database.features.has_native_uuid_field:
        yield from _old_columns(database)


def _are_migrated(database: BaseDatabaseWrapper) -> bool:
    package = import_module(f"{APP}.migrations")
    names = {one.name for one in pkgutil.iter_modules(package.__path__) if one.name[0] != "_"}
    applied = set(MigrationRecorder(database).applied_migrations())
    return {(APP, name) for name in names} <= applied


def _indexes(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    models: list[Any] = list(apps.get_app_config(APP).get_models())
    for model in models:
        usable = _usable_indexes(database, model._meta.db_table)
        unique = [one for one in model._meta.constraints if isinstance(one, UniqueConstraint)]
        for one in (*model._meta.indexes, *unique):
            if one.name not in usable:
                yield _missing(
                    database, one.name, one.create_sql(model, database.schema_editor())
                )


def _usable_indexes(database: BaseDatabaseWrapper, table: str) -> set[str]:
    with database.cursor() as cursor:
        found = set(database.introspection.get_constraints(cursor, table))
        if database.vendor == "postgresql":  # CREATE INDEX CONCURRENTLY was broken off
            cursor.execute(INVALID, [table])
            found -= {name for (name,) in cursor.fetchall()}
    return found


def _missing(database: BaseDatabaseWrapper, name: str, sql: Any) -> CheckMessage:
    harm = "claims fail" if database.vendor == "mysql" else "claims read the whole table"
    return Warning(
        f"Database {database.alias!r} has no usable index {name!r}, though our migrations are "
        f"applied: {harm}, or what must be unique is not.",
        hint=f"Drop what is left of it, and execute: {sql}",
        id="aftercommit.W013",
    )


def _old_columns(database: BaseDatabaseWrapper) -> Iterator[CheckMessage]:
    """Find ids that are CHAR(32): MariaDB has the type UUID since 10.7, and Django uses it."""
    models: list[Any] = list(apps.get_app_config(APP).get_models())
    tables = sorted({model._meta.db_table for model in models})
    ours = {
        (model._meta.db_table, field.column)
        for model in models
        for field in model._meta.local_fields
        if isinstance(field.target_field if field.is_relation else field, UUIDField)
    }
    with database.cursor() as cursor:
        cursor.execute(TYPES.format(marks=", ".join(["%s"] * len(tables))), ["char", *tables])
        old = [row for row in cursor.fetchall() if (row[0], row[1]) in ours]
    if old:
        changes = " ".join(
            f"ALTER TABLE {table} MODIFY {column} UUID{'' if null == 'YES' else ' NOT NULL'};"
            for table, column, null in sorted(old)
        )
        yield Warning(
            f"Database {database.alias!r} is a MariaDB with a type UUID, and our tables are "
            "from an older one: their ids are CHAR(32), and Django writes 36 characters. No job "
            "can be enqueued, and none that is there is found.",
            hint=f"Stop the workers, and execute: {changes}",
            id="aftercommit.W014",
        )
