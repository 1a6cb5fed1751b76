"""What people do in the dashboard, and permissions for it."""

from typing import ClassVar

from django.db import migrations, models

from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Count, Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0017_statistics")]

    operations: ClassVar = [
        migrations.AlterModelOptions(
            name="job",
            options={
                "permissions": [
                    ("retry_job", "Can retry jobs"),
                    ("cancel_job", "Can cancel jobs"),
                    ("view_job_arguments", "Can view arguments and results of jobs"),
                    ("enqueue_job", "Can enqueue copies of jobs"),
                ],
                "verbose_name": "job",
                "verbose_name_plural": "jobs",
            },
        ),
        CreateNewModel(
            name="AuditRecord",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("at", models.DateTimeField()),
                ("user_id", models.CharField(blank=True, default="", max_length=255)),
                ("by", models.CharField(blank=True, default="", max_length=255)),
                ("action", Name(max_length=50)),
                ("subject", models.CharField(blank=True, default="", max_length=255)),
                ("details", models.JSONField(blank=True, default=dict)),
                ("found", Count(default=0)),
                ("changed", Count(default=0)),
            ],
            options={
                "verbose_name": "audit record",
                "verbose_name_plural": "audit records",
                "default_permissions": ("view",),
            },
        ),
    ]
