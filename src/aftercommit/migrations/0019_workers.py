"""How many threads a worker has, and its memory. Columns that may be NULL: no table is copied."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import AddColumnOnce, OneWay


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0018_dashboard")]

    operations: ClassVar = [
        AddColumnOnce("WorkerPresence", "threads", models.PositiveIntegerField(null=True)),
        AddColumnOnce("WorkerPresence", "memory", models.BigIntegerField(null=True)),
    ]
