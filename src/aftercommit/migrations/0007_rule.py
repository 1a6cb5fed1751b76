"""A table for what operators set at run time: paused queues and tasks.

Nothing waits for it. Workers of before do not read it, and go on as before.
"""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0006_received_by_bytes")]

    operations: ClassVar = [
        CreateNewModel(
            name="Rule",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("kind", Name(choices=[("queue", "Queue"), ("task", "Task")], max_length=10)),
                ("name", Name(max_length=255)),
                ("paused_since", models.DateTimeField(null=True)),
                ("paused_by", models.CharField(blank=True, default="", max_length=255)),
                ("paused_because", models.CharField(blank=True, default="", max_length=255)),
            ],
            options={
                "verbose_name": "rule",
                "verbose_name_plural": "rules",
                "permissions": [("pause_rule", "Can pause and resume queues and tasks")],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("kind", "name"), name="aftercommit_rule_once")
                ],
            },
        ),
    ]
