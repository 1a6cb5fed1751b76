"""Whether somebody waits for a job. A column that may be NULL: no table is copied."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import AddColumnOnline, OneWay


class Migration(OneWay):
    atomic = False  # so that each try to lock the table is short

    dependencies: ClassVar = [("aftercommit", "0008_pruned")]

    operations: ClassVar = [
        AddColumnOnline("Job", "awaited", models.BooleanField(null=True)),
    ]
