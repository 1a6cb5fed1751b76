"""Operations that other programs, also of version 0.1, hardly notice, and that may be repeated."""

from typing import Any

from django.db import migrations, transaction
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.operations.base import Operation

from aftercommit.migrations._flags import in_use
from aftercommit.migrations._lock import change_on_mysql, lock_on_postgresql

ONE_WAY = (
    "{migration} cannot be undone: nothing was changed.\n"
    "Version 0.1 works on these tables: to go back to it, end all workers of this version, "
    "install version 0.1, and leave the tables and migrations as they are.\n"
    "To remove aftercommit, drop its tables by SQL, then run: migrate --fake aftercommit zero"
)
INDEX = """
SELECT indexrelid::regclass::text, indisvalid
FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE indrelid = %s::regclass AND relname = %s
"""
# Version 0.1 names it in FORCE INDEX: without it, its claims would be errors.
NAMED_BY_VERSION_0_1 = "aftercommit_job_due"


class OneWay(migrations.Migration):
    """A migration that says what to do instead of undoing it."""

    def unapply(self, project_state: Any, schema_editor: Any, collect_sql: bool = False) -> Any:
        """Refuse."""
        raise IrreversibleError(ONE_WAY.format(migration=self))


class CreateNewModel(migrations.CreateModel):
    """Create a table. MySQL may have one of a migration that was broken off: nobody uses it."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Create the table."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.name)
        if (
            connection.vendor == "mysql"
            and not schema_editor.collect_sql
            and self.allow_migrate_model(connection.alias, model)
            and model._meta.db_table in connection.introspection.table_names()
        ):
            schema_editor.delete_model(model)
        super().database_forwards(app_label, schema_editor, from_state, to_state)


class OnPostgreSQL(Operation):
    """Run a statement on PostgreSQL only; it must do no harm if it is repeated."""

    reversible = False

    def __init__(self, statement: str) -> None:
        self.statement = " ".join(statement.split())

    def state_forwards(self, app_label: str, state: Any) -> None:
        """Change nothing."""

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Run the statement."""
        connection = schema_editor.connection
        job = to_state.apps.get_model(app_label, "Job")
        if connection.vendor == "postgresql" and self.allow_migrate_model(connection.alias, job):
            schema_editor.execute(self.statement, params=None)

    def describe(self) -> str:
        """Return what ``migrate --plan`` shows."""
        return f"On PostgreSQL: {self.statement}"


class AddColumnOnline(migrations.AddField):
    """Add a column that may be NULL to a table in use: no row is written, no lock waits long."""

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add the column, unless it is there."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(connection.alias, model):
            return
        if not schema_editor.collect_sql and _has_column(connection, model, self.name):
            return

        def add() -> None:
            migrations.AddField.database_forwards(
                self, app_label, schema_editor, from_state, to_state
            )

        if connection.vendor == "mysql":
            change_on_mysql(schema_editor, add, model._meta.db_table)
        elif connection.vendor == "postgresql" and not schema_editor.collect_sql:
            with transaction.atomic(using=connection.alias):
                lock_on_postgresql(schema_editor, model._meta.db_table)
                add()
        else:
            add()


class AddColumnOnce(migrations.AddField):
    """Add a column that may be NULL to a small table; MySQL may have it of a broken-off migration."""

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add the column, unless it is there."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if (
            schema_editor.collect_sql
            or not self.allow_migrate_model(connection.alias, model)
            or not _has_column(connection, model, self.name)
        ):
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndexOnline(migrations.AddIndex):
    """Add an index; on PostgreSQL writes go on meanwhile."""

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Add the index, unless it is there."""
        connection = schema_editor.connection
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(connection.alias, model):
            return
        if not schema_editor.collect_sql and (found := _find(connection, model, self.index.name)):
            name, is_valid = found
            if is_valid:
                return
            schema_editor.execute(f"DROP INDEX CONCURRENTLY {name}")
        if connection.vendor == "postgresql":
            schema_editor.add_index(model, self.index, concurrently=True)
        elif connection.vendor == "mysql":
            change_on_mysql(
                schema_editor,
                lambda: schema_editor.add_index(model, self.index),
                model._meta.db_table,
            )
        else:
            schema_editor.add_index(model, self.index)


class RemoveIndexOnline(migrations.RemoveIndex):
    """Remove an index; on PostgreSQL writes go on meanwhile."""

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Remove the index, if it is there and version 0.1 can do without."""
        connection = schema_editor.connection
        job = from_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(connection.alias, job):
            return
        found = (
            (self.name, True) if schema_editor.collect_sql else _find(connection, job, self.name)
        )
        if not found or self._is_kept(schema_editor):
            return
        if connection.vendor == "postgresql":
            schema_editor.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {found[0]}")
            return
        state = from_state.models[app_label, self.model_name_lower]
        index = state.get_index_by_name(self.name)
        if connection.vendor == "mysql":
            change_on_mysql(schema_editor, lambda: schema_editor.remove_index(job, index))
        else:
            schema_editor.remove_index(job, index)

    def _is_kept(self, schema_editor: Any) -> bool:
        return (
            schema_editor.connection.vendor == "mysql"
            and self.name == NAMED_BY_VERSION_0_1
            and not schema_editor.collect_sql
            and in_use(schema_editor.connection)
        )


def _find(connection: Any, model: Any, name: str) -> tuple[str, bool] | None:
    """Return the name of an index of the table, with its schema if need be, and if it is valid.

    CREATE INDEX CONCURRENTLY that was broken off leaves one that is not.
    """
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(INDEX, [table, name])
            found: tuple[str, bool] | None = cursor.fetchone()
            return found
        names = connection.introspection.get_constraints(cursor, table)
    return (name, True) if name in names else None


def _has_column(connection: Any, model: Any, name: str) -> bool:
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, model._meta.db_table)
    return name in {column.name for column in found}
