"""Statistics of runs: how many ended and how, how long they waited and ran."""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0016_notes")]

    operations: ClassVar = [
        CreateNewModel(
            name="Statistic",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                (
                    "span",
                    Name(
                        choices=[
                            ("flush", "Flush"),
                            ("minute", "Minute"),
                            ("hour", "Hour"),
                            ("total", "Total"),
                        ],
                        max_length=6,
                    ),
                ),
                ("began_at", models.DateTimeField()),
                ("task_path", Name(max_length=255)),
                ("queue", Name(max_length=100)),
                ("outcome", Name(max_length=10)),
                ("jobs", models.BigIntegerField()),
                ("waited", models.DurationField()),
                ("ran", models.DurationField()),
                ("waits", models.TextField()),
                ("runs", models.TextField()),
            ],
            options={
                "verbose_name": "statistic",
                "verbose_name_plural": "statistics",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["span", "began_at"], name="aftercommit_statistic_span")
                ],
            },
        ),
    ]
