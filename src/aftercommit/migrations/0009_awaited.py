"""Whether somebody waits for a job. A column that may be NULL: no table is copied."""

from typing import ClassVar

from django.db import migrations, models

from aftercommit.migrations._online import OneWay


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0008_pruned")]

    operations: ClassVar = [
        migrations.AddField("Job", "awaited", models.BooleanField(null=True)),
    ]
