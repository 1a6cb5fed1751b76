"""The tables that tests write in, and how they are emptied."""

from django.apps import apps
from django.db import connections, transaction

# What migrations have put there stays.
KEPT = {"contenttypes.contenttype", "auth.permission"}


def wipe(using: str = "default") -> None:
    """Remove every row that a test may have left in a database."""
    connection = connections[using]
    models = [
        model
        for model in apps.get_models(include_auto_created=True)
        if model._meta.managed and model._meta.label_lower not in KEPT
    ]
    with (
        transaction.atomic(using=using),
        connection.constraint_checks_disabled(),
        connection.cursor() as cursor,
    ):
        for model in models:
            cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")
