"""Rates, fairness, and limits of queues.

The columns are added without a rewrite of the table, the index while jobs go on. Workers of
before do not read the new tables.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from aftercommit.migrations._online import (
    AddColumnOnce,
    AddColumnOnline,
    AddIndexOnline,
    CreateNewModel,
    OneWay,
)
from aftercommit.models import Name, PartialIndex


class Migration(OneWay):
    atomic = False  # as CREATE INDEX CONCURRENTLY demands

    dependencies: ClassVar = [("aftercommit", "0010_limits")]

    operations: ClassVar = [
        AddColumnOnline("Job", "rate_key", models.CharField(max_length=64, null=True)),
        AddColumnOnline("Job", "fair_key", models.CharField(max_length=64, null=True)),
        AddColumnOnline("Job", "line", models.CharField(max_length=64, null=True)),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(line__isnull=False),
                fields=["line", "priority", "run_after", "id"],
                name="aftercommit_job_line",
            ),
        ),
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
    ]
