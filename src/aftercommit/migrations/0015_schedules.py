"""Periodic tasks."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Count, Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0014_graphs")]

    operations: ClassVar = [
        CreateNewModel(
            name="Schedule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("name", Name(max_length=255, unique=True)),
                (
                    "source",
                    Name(
                        choices=[
                            ("code", "Code"),
                            ("settings", "Settings"),
                            ("people", "People"),
                        ],
                        max_length=10,
                    ),
                ),
                ("enabled", models.BooleanField(default=True)),
                ("task_path", Name(max_length=255)),
                ("backend", Name(default="default", max_length=100)),
                ("queue", Name(max_length=100, default="", blank=True)),
                ("priority", models.SmallIntegerField(blank=True, null=True)),
                ("payload", models.TextField(default='{"args": [], "kwargs": {}}')),
                ("cron", models.CharField(blank=True, default="", max_length=255)),
                ("every", models.DurationField(blank=True, null=True)),
                ("timezone", models.CharField(blank=True, default="", max_length=64)),
                ("catch_up", models.CharField(default="last", max_length=4)),
                ("catch_up_within", models.DurationField(blank=True, null=True)),
                ("overlap", models.CharField(default="queue", max_length=5)),
                ("jitter", models.DurationField(blank=True, null=True)),
                ("declared", models.TextField(null=True)),
                ("digest", models.CharField(default="", max_length=64)),
                ("former", models.TextField(null=True)),
                ("declared_at", models.DateTimeField(null=True)),
                ("seen_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("edited", models.TextField(null=True)),
                ("next_run", models.DateTimeField(null=True)),
                ("last_run", models.DateTimeField(null=True)),
                ("last_job_id", models.UUIDField(null=True)),
                ("missed", Count(default=0)),
                ("skipped", Count(default=0)),
                ("problem", models.TextField(blank=True, default="")),
                ("created_at", models.DateTimeField()),
                ("changed_at", models.DateTimeField()),
            ],
            options={
                "verbose_name": "schedule",
                "verbose_name_plural": "schedules",
                "permissions": [("run_schedule", "Can run schedules now")],
                "indexes": [models.Index(fields=["next_run"], name="aftercommit_schedule_next")],
            },
        ),
        CreateNewModel(
            name="Tick",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("schedule", Name(max_length=255)),
                ("moment", models.DateTimeField()),
                ("job_id", models.UUIDField(null=True)),
            ],
            options={
                "verbose_name": "tick",
                "verbose_name_plural": "ticks",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("schedule", "moment"), name="aftercommit_tick_once"
                    )
                ],
            },
        ),
    ]
