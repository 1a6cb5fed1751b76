"""What a worker has pruned. Columns that may be NULL: no table is copied, no write waits."""

from typing import ClassVar

from django.db import migrations, models

from aftercommit.migrations._online import OneWay


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0007_rule")]

    operations: ClassVar = [
        migrations.AddField("WorkerPresence", "pruned", models.BigIntegerField(null=True)),
        migrations.AddField("WorkerPresence", "pruned_at", models.DateTimeField(null=True)),
    ]
