"""What a worker has pruned. Columns that may be NULL: no table is copied, no write waits."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import AddColumnOnce, OneWay


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0007_rule")]

    operations: ClassVar = [
        AddColumnOnce("WorkerPresence", "pruned", models.BigIntegerField(null=True)),
        AddColumnOnce("WorkerPresence", "pruned_at", models.DateTimeField(null=True)),
    ]
