"""The change of the table of received messages, which is one on MySQL and MariaDB only."""

from functools import partial
from typing import Any

from django.db.migrations.operations import SeparateDatabaseAndState

from aftercommit.migrations._lock import change_on_mysql
from aftercommit.models import UniqueByBytes

TABLE = "aftercommit_received"
NAME, NEW_NAME = "aftercommit_received_once", "aftercommit_received_bytes"
NEW_DEFAULT = f"ALTER TABLE {TABLE} ALTER COLUMN received_at SET DEFAULT (UTC_TIMESTAMP(6))"


class ChangeReceivedTable(SeparateDatabaseAndState):
    """Let a hash of the id and the consumer be unique, instead of the texts by their collation.

    A virtual column, an index that is built while others write, and the old index dropped: what
    has been done by a migration that was broken off is not done again.
    """

    reversible = False

    def database_forwards(
        self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any
    ) -> None:
        """Change the table."""
        connection = schema_editor.connection
        received = to_state.apps.get_model(app_label, "Received")
        if connection.vendor != "mysql" or not self.allow_migrate_model(
            connection.alias, received
        ):
            return
        (unique,) = received._meta.constraints
        for sql in _statements(schema_editor, unique):
            change_on_mysql(schema_editor, partial(schema_editor.execute, sql, params=None))

    def describe(self) -> str:
        """Return what ``migrate --plan`` shows."""
        return "Compare ids of received messages by their bytes"


def _statements(schema_editor: Any, unique: UniqueByBytes) -> list[str]:
    key = unique.KEY
    done = {} if schema_editor.collect_sql else _indexes(schema_editor.connection)
    statements = [NEW_DEFAULT]
    if done.get(NAME) == [key]:
        return statements
    if not done or not _has_column(schema_editor.connection, key):
        statements.append(f"ALTER TABLE {TABLE} ADD COLUMN {unique.key_sql(schema_editor)}")
    if NEW_NAME not in done:
        statements.append(f"CREATE UNIQUE INDEX {NEW_NAME} ON {TABLE} ({key})")
    statements.append(f"ALTER TABLE {TABLE} DROP INDEX {NAME}, RENAME INDEX {NEW_NAME} TO {NAME}")
    return statements


def _indexes(connection: Any) -> dict[str, list[str]]:
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, TABLE)
    return {name: one["columns"] for name, one in found.items()}


def _has_column(connection: Any, name: str) -> bool:
    with connection.cursor() as cursor:
        found = connection.introspection.get_table_description(cursor, TABLE)
    return name in {column.name for column in found}
