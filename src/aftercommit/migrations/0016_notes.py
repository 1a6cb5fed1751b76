"""Progress, log lines and saved values of jobs."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0015_schedules")]

    operations: ClassVar = [
        CreateNewModel(
            name="Progress",
            fields=[
                ("job_id", models.UUIDField(primary_key=True, serialize=False)),
                ("token", models.BigIntegerField()),
                ("done", models.BigIntegerField()),
                ("total", models.BigIntegerField(null=True)),
                ("message", models.CharField(blank=True, default="", max_length=255)),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "progress",
                "verbose_name_plural": "progress",
                "default_permissions": ("view",),
            },
        ),
        CreateNewModel(
            name="LogLine",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job_id", models.UUIDField()),
                ("token", models.BigIntegerField()),
                ("attempt", models.IntegerField()),
                ("level", models.SmallIntegerField()),
                ("logger", models.CharField(blank=True, default="", max_length=255)),
                ("message", models.TextField()),
                ("logged_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "log line",
                "verbose_name_plural": "log lines",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["job_id", "id"], name="aftercommit_logline_job")
                ],
            },
        ),
        CreateNewModel(
            name="Saved",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job_id", models.UUIDField()),
                (
                    "kind",
                    Name(
                        choices=[("checkpoint", "Checkpoint"), ("once", "Call made once")],
                        max_length=10,
                    ),
                ),
                ("name", Name(blank=True, default="", max_length=100)),
                ("token", models.BigIntegerField()),
                ("value", models.TextField(null=True)),
                ("saved_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "saved value",
                "verbose_name_plural": "saved values",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("job_id", "kind", "name"), name="aftercommit_saved_once"
                    )
                ],
            },
        ),
    ]
