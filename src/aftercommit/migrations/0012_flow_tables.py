"""Tables for rates and limits of queues, and what a worker says of itself.

Nothing waits for them, and older workers go on.
"""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import AddColumnOnce, CreateNewModel, OneWay
from aftercommit.models import Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0011_flow")]

    operations: ClassVar = [
        CreateNewModel(
            name="Rate",
            fields=[
                ("key", Name(max_length=150, primary_key=True, serialize=False)),
                ("tat", models.DateTimeField()),
                ("paused_until", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "rate",
                "verbose_name_plural": "rates",
                "default_permissions": ("view",),
            },
        ),
        CreateNewModel(
            name="Slot",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("key", Name(max_length=150)),
                ("number", models.IntegerField()),
                ("job_id", models.UUIDField()),
                ("token", models.BigIntegerField()),
            ],
            options={
                "verbose_name": "slot",
                "verbose_name_plural": "slots",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("key", "number"), name="aftercommit_slot_once"
                    )
                ],
            },
        ),
        AddColumnOnce("Rule", "limit", models.IntegerField(null=True)),
        AddColumnOnce("Rule", "rate", models.CharField(max_length=50, null=True)),
        AddColumnOnce("WorkerPresence", "clock", models.DateTimeField(null=True)),
        AddColumnOnce("WorkerPresence", "version", models.CharField(max_length=50, null=True)),
    ]
