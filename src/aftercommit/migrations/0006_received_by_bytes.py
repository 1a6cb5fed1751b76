"""Ids of received messages are compared by their bytes, and their moments are UTC, on MySQL too.

Nothing is changed on PostgreSQL and SQLite. On MySQL and MariaDB nothing here copies the table
or makes writes wait, and programs of version 0.1 obey the new index as they did the old one.
"""

from typing import ClassVar

from django.db import migrations, models

from aftercommit.migrations._online import OneWay
from aftercommit.migrations._received_table import ChangeReceivedTable
from aftercommit.models import UniqueByBytes, UtcNow


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0005_old_indexes")]

    operations: ClassVar = [
        ChangeReceivedTable(
            state_operations=[
                migrations.RemoveConstraint("Received", "aftercommit_received_once"),
                migrations.AddConstraint(
                    "Received",
                    UniqueByBytes(
                        fields=("message_id", "consumer"), name="aftercommit_received_once"
                    ),
                ),
                migrations.AlterField(
                    "Received",
                    "received_at",
                    models.DateTimeField(db_default=UtcNow(), db_index=True),
                ),
            ]
        )
    ]
