"""Groups of jobs, and their members."""

from typing import ClassVar

from django.db import models

from aftercommit.ids import new_job_id
from aftercommit.migrations._online import CreateNewModel, OneWay
from aftercommit.models import Count, Name


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0013_needed")]

    operations: ClassVar = [
        CreateNewModel(
            name="Group",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=new_job_id, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("name", Name(blank=True, default="", max_length=255)),
                ("description", models.TextField(blank=True, default="")),
                ("meta", models.JSONField(blank=True, default=dict)),
                ("final_id", models.UUIDField(null=True)),
                ("created_at", models.DateTimeField()),
                ("cancelled_at", models.DateTimeField(null=True)),
                ("emptied_at", models.DateTimeField(null=True)),
                ("pruned_succeeded", Count(default=0)),
                ("pruned_failed", Count(default=0)),
                ("pruned_cancelled", Count(default=0)),
            ],
            options={
                "verbose_name": "group",
                "verbose_name_plural": "groups",
                "permissions": [("cancel_group", "Can cancel groups")],
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["name", "created_at"], name="aftercommit_group_name")
                ],
            },
        ),
        CreateNewModel(
            name="Member",
            fields=[
                ("job_id", models.UUIDField(primary_key=True, serialize=False)),
                ("group_id", models.UUIDField()),
            ],
            options={
                "verbose_name": "member of a group",
                "verbose_name_plural": "members of groups",
                "default_permissions": ("view",),
                "indexes": [
                    models.Index(fields=["group_id", "job_id"], name="aftercommit_member_group")
                ],
            },
        ),
    ]
