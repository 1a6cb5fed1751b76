"""The tables that tests write in, and how they are emptied."""

from itertools import compress

from django.apps import apps
from django.db import connections, transaction

# What migrations have put there stays.
KEPT = {"contenttypes.contenttype", "auth.permission"}


def wipe(using: str = "default") -> None:
    """Remove every row that a test may have left in a database."""
    connection = connections[using]
    tables = [
        connection.ops.quote_name(model._meta.db_table)
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and model._meta.label_lower not in KEPT
    ]
    if not tables:
        return
    filled = ", ".join(f"EXISTS (SELECT 1 FROM {table})" for table in tables)
    with (
        transaction.atomic(using=using),
        connection.constraint_checks_disabled(),
        connection.cursor() as cursor,
    ):
        cursor.execute(f"SELECT {filled}")
        for table in compress(tables, cursor.fetchone()):
            cursor.execute(f"DELETE FROM {table}")


def leave_no_dead_jobs() -> None:
    """Remove what earlier updates of jobs have left, before an index is built anew.

    PostgreSQL may use an index that was built above such rows only when all transactions of the
    server have ended that began before it; later tests look at plans.
    """
    connection = connections["default"]
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("TRUNCATE aftercommit_job CASCADE")
