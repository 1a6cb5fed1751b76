"""Leases by claim, and a table of jobs in which the end of a run writes no index.

On PostgreSQL it takes the lock of ALTER TABLE for milliseconds. Workers of version 0.1 may run
on, beside those of this version.
"""

from typing import ClassVar

from django.db import migrations, models
from django.db.models import Q

from aftercommit.migrations._job_table import LEASE_STORAGE, OLD_CHECKS, ChangeJobTable
from aftercommit.migrations._online import CreateNewModel, OneWay, OnPostgreSQL
from aftercommit.models import Count, Name

FINISHED = ("succeeded", "failed", "cancelled")


class Migration(OneWay):
    dependencies: ClassVar = [("aftercommit", "0002_received")]

    operations: ClassVar = [
        CreateNewModel(
            name="Lease",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("worker_id", models.UUIDField()),
                ("lease_until", models.DateTimeField()),
                ("jobs", models.TextField()),
            ],
            options={"verbose_name": "lease", "verbose_name_plural": "leases"},
        ),
        CreateNewModel(
            name="Dependency",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("job_id", models.UUIDField()),
                ("needs_id", models.UUIDField()),
            ],
            options={
                "verbose_name": "dependency",
                "verbose_name_plural": "dependencies",
                "indexes": [
                    models.Index(fields=["needs_id"], name="aftercommit_dependency_needs")
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("job_id", "needs_id"), name="aftercommit_dependency_once"
                    )
                ],
            },
        ),
        OnPostgreSQL(
            f"ALTER TABLE aftercommit_lease SET ({LEASE_STORAGE}), "
            "ALTER COLUMN jobs SET STORAGE EXTERNAL"  # to compress random ids takes time only
        ),
        ChangeJobTable(
            state_operations=[
                *(migrations.RemoveConstraint("Job", name) for name in OLD_CHECKS),
                *(
                    migrations.AddField("Job", name, field)
                    for name, field in (
                        ("claimable", models.BooleanField(db_default=True)),
                        ("unsuccessful", models.BooleanField(db_default=False)),
                        ("waits_for", Count(db_default=0)),
                        ("headers", models.TextField(null=True)),
                        ("tags", models.TextField(null=True)),
                    )
                ),
                *(
                    migrations.AlterField("Job", name, field)
                    for name, field in (
                        ("queue", Name(default="default", max_length=100)),
                        ("backend", Name(default="default", max_length=100)),
                        ("task_path", Name(max_length=255)),
                        ("attempts", Count(default=0)),
                        ("crashes", Count(default=0)),
                        ("conflicts", Count(default=0)),
                        ("max_attempts", Count(default=5)),
                        ("slot", Count(null=True)),
                    )
                ),
                migrations.AddConstraint(
                    "Job",
                    models.CheckConstraint(
                        condition=Q(
                            state="ready",
                            finished_at__isnull=True,
                            lease_until__isnull=True,
                            slot__isnull=True,
                        )
                        | Q(state="running", finished_at__isnull=True, worker_id__isnull=False)
                        | Q(
                            state__in=FINISHED,
                            finished_at__isnull=False,
                            lease_until__isnull=True,
                            slot__isnull=True,
                            unique_lock__isnull=True,
                        ),
                        name="aftercommit_job_consistent",
                    ),
                ),
            ]
        ),
    ]
